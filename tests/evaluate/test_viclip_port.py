"""ViCLIP: the published names, transformers' CLIP as a second formulation of both towers, its words, its judge."""

import gzip
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from goku_core.evaluate.judges.judge import Bench, Seen, judge_named
from goku_core.evaluate.judges.video.viclip import ViClipJudge
from goku_core.evaluate.manifest import Prompt, plan
from goku_core.evaluate.networks.video import bpe, viclip
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.tensors import read_tensors

TINY = viclip.Size(
    side=28, patch=14, frames=4, width=16, layers=2, heads=2, words=300, tokens=8, text_width=12, text_layers=2,
    text_heads=3, space=10,
)  # fmt: skip


def published():
    """Names and shapes by the constructor calls of vbench/third_party/ViCLIP (clip_joint_l14, clip_text_l14)."""
    shapes = {"temp": ()}
    for tower, width, layers in (("vision_encoder", 1024, 24), ("text_encoder", 768, 12)):
        for k in range(layers):
            block = f"{tower}.transformer.resblocks.{k}"
            shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
            shapes |= {f"{block}.mlp.c_fc.weight": (4 * width, width), f"{block}.mlp.c_fc.bias": (4 * width,)}
            shapes |= {f"{block}.mlp.c_proj.weight": (width, 4 * width), f"{block}.mlp.c_proj.bias": (width,)}
            shapes |= {f"{block}.attn.out_proj.weight": (width, width), f"{block}.attn.out_proj.bias": (width,)}
            shapes |= {f"{block}.ln_{n}.{part}": (width,) for n in (1, 2) for part in ("weight", "bias")}
    seen, read = "vision_encoder", "text_encoder"
    norms = ((f"{seen}.ln_pre", 1024), (f"{seen}.ln_post", 1024), (f"{read}.ln_final", 768))
    shapes |= {f"{name}.{part}": (width,) for name, width in norms for part in ("weight", "bias")}
    shapes |= {f"{seen}.conv1.weight": (1024, 3, 1, 14, 14), f"{seen}.class_embedding": (1024,)}
    shapes |= {f"{seen}.positional_embedding": (257, 1024), f"{seen}.temporal_positional_embedding": (1, 8, 1024)}
    shapes |= {f"{seen}.proj": (1024, 768), f"{read}.text_projection": (768, 768)}
    return shapes | {f"{read}.token_embedding.weight": (49408, 768), f"{read}.positional_embedding": (32, 768)}


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        network = viclip.ViClip()
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == published()


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    network = viclip.ViClip(TINY).eval().requires_grad_(False)
    for parameter in network.parameters():  # norms and biases too
        parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def renamed(tensors, tower, to):
    """A tower of ours under the names of transformers' CLIP."""
    found = {}
    for name, value in tensors.items():
        if not name.startswith(f"{tower}.transformer."):
            continue
        _, number, rest = name.removeprefix(f"{tower}.transformer.").split(".", 2)
        layer = f"{to}.encoder.layers.{number}"
        if rest.startswith("attn.in_proj"):
            part = rest.rsplit("_", 1)[1]
            for kind, piece in zip("qkv", value.chunk(3), strict=True):
                found[f"{layer}.self_attn.{kind}_proj.{part}"] = piece
        else:
            for ours, theirs in (
                ("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
                ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"),
            ):  # fmt: skip
                rest = rest.replace(ours, theirs)
            found[f"{layer}.{rest}"] = value
    return found


def test_text_tower_is_clips(tiny):
    t = tiny.state_dict()
    config = CLIPTextConfig(
        vocab_size=300, hidden_size=12, intermediate_size=48, projection_dim=10, num_hidden_layers=2, num_attention_heads=3,
        max_position_embeddings=8, hidden_act="quick_gelu", eos_token_id=299, bos_token_id=298, pad_token_id=0,
    )  # fmt: skip
    clip = CLIPTextModelWithProjection(config).eval()
    given = renamed(t, "text_encoder", "text_model") | {
        "text_model.embeddings.token_embedding.weight": t["text_encoder.token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": t["text_encoder.positional_embedding"],
        "text_model.final_layer_norm.weight": t["text_encoder.ln_final.weight"],
        "text_model.final_layer_norm.bias": t["text_encoder.ln_final.bias"],
        "text_projection.weight": t["text_encoder.text_projection"].T,
    }
    clip.load_state_dict(given)
    tokens = torch.tensor([[298, 5, 77, 299, 0, 0, 0, 0], [298, 1, 2, 3, 4, 5, 6, 299]])
    with torch.no_grad():
        expected = clip(input_ids=tokens).text_embeds
    assert torch.allclose(tiny.text_encoder(tokens), expected, atol=1e-5)
    longer_padding = tokens.clone()
    longer_padding[0, 4:] = 9
    assert torch.allclose(
        tiny.text_encoder(longer_padding)[0], expected[0], atol=1e-5
    )  # what follows the end is not read


@pytest.mark.parametrize("frames", [4, 1])
def test_vision_tower_is_clips_over_the_patches_of_all_frames(tiny, frames):
    t = {name.removeprefix("vision_encoder."): v for name, v in tiny.state_dict().items()}
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=64, projection_dim=10, num_hidden_layers=2, num_attention_heads=2, image_size=28,
        patch_size=14, hidden_act="quick_gelu",
    )  # fmt: skip
    clip = CLIPVisionModelWithProjection(config).eval()
    given = renamed(tiny.state_dict(), "vision_encoder", "vision_model") | {
        "vision_model.embeddings.class_embedding": t["class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": t["conv1.weight"][:, :, 0],
        "vision_model.embeddings.position_embedding.weight": t["positional_embedding"],
        "visual_projection.weight": t["proj"].T,
    }
    for ours, theirs in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")):
        given |= {f"vision_model.{theirs}.{part}": t[f"{ours}.{part}"] for part in ("weight", "bias")}
    clip.load_state_dict(given)
    pixels = torch.randn(2, frames, 3, 28, 28)
    times = t["temporal_positional_embedding"][0]
    expected = []
    with torch.no_grad():
        for one in pixels:
            embedded = clip.vision_model.embeddings(one)  # (T, 1 + P, W): every frame as a picture of its own
            tokens = [embedded[0, 0]]
            for patch in range(4):
                for time in range(frames):
                    tokens.append(embedded[time, 1 + patch] + (times[time] if frames > 1 else times.mean(0)))
            x = clip.vision_model.pre_layrnorm(torch.stack(tokens)[None])
            x = clip.vision_model.encoder(inputs_embeds=x).last_hidden_state
            expected.append(clip.visual_projection(clip.vision_model.post_layernorm(x[:, 0]))[0])
    assert torch.allclose(tiny.vision_encoder(pixels), torch.stack(expected), atol=1e-5)
    assert torch.allclose(tiny.clips(pixels).norm(dim=-1), torch.ones(2))


def test_time_matters_and_other_lengths_are_refused(tiny):
    pixels = torch.randn(1, 4, 3, 28, 28)
    assert not torch.allclose(tiny.vision_encoder(pixels), tiny.vision_encoder(pixels.flip(1)), atol=1e-3)
    with pytest.raises(ValueError, match="4 frames"):
        tiny.vision_encoder(pixels[:, :3])


MERGES = ["r e", "re d</w>", "c i", "r c", "l e</w>", "ci rc", "circ u"]


def bpe_file(folder):
    path = folder / bpe.SOURCE.place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(["#version", *MERGES, ""]).encode()))
    return path


def greedy(word, merges):
    """Byte pair encoding by its definition: again and again the earliest merge of the list, wherever it occurs."""
    parts = [*word[:-1], word[-1] + "</w>"]
    while True:
        pairs = [f"{a} {b}" for a, b in pairwise(parts)]
        ranks = [merges.index(pair) if pair in merges else 10**6 for pair in pairs]
        if not ranks or min(ranks) == 10**6:
            return parts
        left, right = merges[min(ranks)].split()
        merged, k = [], 0
        while k < len(parts):
            if parts[k : k + 2] == [left, right]:
                merged.append(left + right)
                k += 2
            else:
                merged.append(parts[k])
                k += 1
        parts = merged


def test_words_are_numbered_as_clip_numbers_them(tmp_path):
    words = bpe.Words(bpe_file(tmp_path))
    signs = (
        [chr(b) for b in range(0x21, 0x7F)] + [chr(b) for b in range(0xA1, 0xAD)] + [chr(b) for b in range(0xAE, 0x100)]
    )
    signs += [chr(256 + k) for k in range(68)]
    vocabulary = signs + [s + "</w>" for s in signs] + [m.replace(" ", "") for m in MERGES]
    expected = [vocabulary.index(p) for w in ("red", "circles", "&", "a") for p in greedy(w, MERGES)]
    start, end = 512 + len(MERGES), 513 + len(MERGES)
    tokens = words.tokens(["  Red CIRCLES &amp; a ", "red"], 16)
    assert tokens[0].tolist() == [start, *expected, end] + [0] * (14 - len(expected))
    assert tokens[1].tolist() == [start, vocabulary.index("red</w>"), end] + [0] * 13
    assert words.tokens(["red " * 30], 8)[0].tolist() == [start] + [vocabulary.index("red</w>")] * 6 + [end]


def test_a_file_that_is_no_list_of_merges_is_named(tmp_path):
    path = bpe_file(tmp_path)
    path.write_bytes(b"not gzip")
    with pytest.raises(GokuError, match="cannot be read as CLIP's list of merges"):
        bpe.Words(path)


@pytest.fixture
def bench(tmp_path):
    size = 512 + len(MERGES) + 2
    bpe_file(tmp_path)
    torch.manual_seed(1)
    network = viclip.ViClip(viclip.Size(**{**TINY.__dict__, "words": size}))
    torch.save({"model": network.state_dict(), "best": np.float64(0.4)}, tmp_path / viclip.SOURCE.place)
    return Bench(weights=tmp_path), network.size


def seen(frames, dimensions, text="a red circle"):
    prompt = Prompt("vbench-00000", text, "", dimensions)
    return Seen(plan("vbench", "video", [prompt], 1, 0)[0], frames, 8.0, "0" * 64)


def test_judge_answers_what_is_asked_the_same_alone_and_in_company(bench):
    judge = ViClipJudge(*bench)
    assert judge.missing() == ""
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (count, 40, 64, 3), dtype=np.uint8) for count in (9, 2)]
    both = [seen(clips[0], ("temporal_style",)), seen(clips[1], ("overall_consistency", "aesthetic_quality"))]
    answers = judge.judge(both)
    assert [a.dimension for a in answers] == ["temporal_style", "overall_consistency"]
    assert judge.judge(both[1:]) == answers[1:]
    assert answers[0].evidence["frames"] == [0, 2, 4, 7] and answers[1].evidence["frames"] == [0, 1, 1, 1]
    assert all(-1 <= a.score <= 1 and a.count == 1 for a in answers)
    assert judge.judge([seen(clips[0], ("color",))]) == []


def test_untrained_weights_do_not_pass_and_have_another_name(bench, tmp_path):
    judge = ViClipJudge(*bench)
    before = judge.fingerprint
    assert before == ViClipJudge(*bench).fingerprint
    with pytest.raises(GokuError, match="fails its check on built-in renders"):
        judge.check()
    tensors = read_tensors(tmp_path / viclip.SOURCE.place, ("model",))
    tensors["temp"] += 1
    torch.save({"model": tensors}, tmp_path / viclip.SOURCE.place)
    assert ViClipJudge(*bench).fingerprint != before
    del tensors["temp"]
    torch.save({"model": tensors}, tmp_path / viclip.SOURCE.place)
    with pytest.raises(GokuError, match="temp is missing"):
        ViClipJudge(*bench).check()


def test_without_weights_the_judge_says_how_to_get_them(tmp_path):
    judge = judge_named("viclip", Bench(weights=tmp_path))
    assert "hf download OpenGVLab/VBench_Used_Models" in judge.missing()
    with pytest.raises(GokuError, match="weights are missing"):
        judge.judge([seen(np.zeros((8, 32, 32, 3), np.uint8), ("temporal_style",))])
