"""UMT: the published names, transformers' VideoMAE as a second formulation, the table of places, the judge of actions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from goku_core.evaluate.judges.judge import Bench, Seen, judge_named
from goku_core.evaluate.judges.video import human_action
from goku_core.evaluate.judges.video.human_action import HumanActionJudge, action_of, action_of_file, read_actions
from goku_core.evaluate.manifest import Prompt, plan
from goku_core.evaluate.networks.video import umt
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.tensors import adopt, read_tensors

OFFICIAL = Path(__file__).parents[2] / "../shared/benchmarks/vbench"
TINY = umt.Size(side=32, patch=16, frames=4, width=24, layers=2, heads=3, actions=7)


def published():
    """Names and shapes by modeling_finetune.py with the arguments of vbench/human_action.py: ViT-L/16, tubelets of one."""
    wide = 1024
    shapes = {"pos_embed": (1, 16 * 14 * 14, wide), "patch_embed.proj.weight": (wide, 3, 1, 16, 16)}
    shapes |= {"patch_embed.proj.bias": (wide,), "head.weight": (400, wide), "head.bias": (400,)}
    norms = ["fc_norm"]
    for k in range(24):
        block = f"blocks.{k}"
        norms += [f"{block}.norm1", f"{block}.norm2"]
        shapes |= {f"{block}.attn.q_bias": (wide,), f"{block}.attn.v_bias": (wide,)}
        shapes |= {f"{block}.attn.qkv.weight": (3 * wide, wide), f"{block}.attn.proj.weight": (wide, wide)}
        shapes |= {f"{block}.attn.proj.bias": (wide,), f"{block}.mlp.fc2.bias": (wide,)}
        shapes |= {f"{block}.mlp.fc1.weight": (4 * wide, wide), f"{block}.mlp.fc1.bias": (4 * wide,)}
        shapes |= {f"{block}.mlp.fc2.weight": (wide, 4 * wide)}
    return shapes | {f"{norm}.{part}": (wide,) for norm in norms for part in ("weight", "bias")}


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        network = umt.Umt()
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == published()


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    network = umt.Umt(TINY).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def test_logits_are_those_of_videomae_with_the_same_weights(tiny):
    config = VideoMAEConfig(
        image_size=32, patch_size=16, num_frames=4, tubelet_size=1, hidden_size=24, intermediate_size=96, num_labels=7,
        num_hidden_layers=2, num_attention_heads=3, layer_norm_eps=1e-6, qkv_bias=True, use_mean_pooling=True,
    )  # fmt: skip
    theirs = VideoMAEForVideoClassification(config).eval()
    theirs.fc_norm.eps = 1e-6
    names = {
        "attn.proj": "attention.output.dense", "norm1": "layernorm_before", "norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
    }  # fmt: skip
    given = {}
    for name, value in tiny.state_dict().items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            layer = f"videomae.encoder.layer.{number}"
            if rest == "attn.qkv.weight":
                for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    given[f"{layer}.attention.attention.{part}.weight"] = piece
            elif rest in ("attn.q_bias", "attn.v_bias"):
                given[f"{layer}.attention.attention.{'query' if 'q_' in rest else 'value'}.bias"] = value
            else:
                part, last = rest.rsplit(".", 1)
                given[f"{layer}.{names[part]}.{last}"] = value
        elif name.startswith("patch_embed."):
            given[name.replace("patch_embed.proj", "videomae.embeddings.patch_embeddings.projection")] = value
        elif name != "pos_embed":
            given[name.replace("head.", "classifier.")] = value
    theirs.load_state_dict(given)
    theirs.videomae.embeddings.position_embeddings = tiny.pos_embed.data
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        expected = theirs(pixel_values=clips.transpose(1, 2)).logits
    assert torch.allclose(tiny(clips), expected, atol=1e-4)
    with pytest.raises(ValueError, match="4 frames of 32 px"):
        tiny(clips[:, :, :3])


def test_places_by_the_formula():
    """Of the trained grid: sin and cos of the token's number; of 16 frames: each half-way kind between its neighbours."""
    grid = umt.places(umt.Size(side=224, frames=8, width=6))[0]
    for token in (0, 1, 200, 1567):
        for channel in range(6):
            angle = token / 10000 ** (2 * (channel // 2) / 6)
            expected = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
            assert grid[token, channel].item() == pytest.approx(expected, abs=1e-5)
    double = umt.places(umt.Size(side=224, frames=16, width=6))[0].view(16, 196, 6)
    eight = grid.view(8, 196, 6)
    for time in range(16):  # time t of 16 lies at (t + 0.5) / 2 - 0.5 of eight
        at = min(max((time + 0.5) / 2 - 0.5, 0.0), 7.0)
        low = int(at)
        expected = (1 - at + low) * eight[low] + (at - low) * eight[min(low + 1, 7)]
        assert torch.allclose(double[time], expected, atol=1e-5)


def test_a_file_without_places_gets_those_of_training_and_nothing_else_may_lack(tmp_path):
    tensors = umt.Umt(TINY).state_dict()
    del tensors["pos_embed"]
    network = adopt(umt.Umt(TINY), tensors, tmp_path / "umt.pth", umt.SOURCE, may_lack=("pos_embed",))
    assert torch.equal(network.pos_embed, umt.places(TINY))
    for change, told in (("head.bias", "head.bias is missing"), (None, "extra is not part of the network")):
        wrong = {name: value for name, value in tensors.items() if name != change}
        wrong |= {} if change else {"extra": torch.zeros(1)}
        with pytest.raises(GokuError, match=told):
            adopt(umt.Umt(TINY), wrong, tmp_path / "umt.pth", umt.SOURCE, may_lack=("pos_embed",))


def test_checkpoints_are_read_without_running_anything(tmp_path):
    class Runs:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": {"a": torch.ones(2)}, "score": np.float64(0.5), "epoch": 3}, tmp_path / "good.pth")
    assert torch.equal(read_tensors(tmp_path / "good.pth", ("state_dict", "model"))["a"], torch.ones(2))
    torch.save({"model": {"a": torch.ones(2)}, "more": Runs()}, tmp_path / "bad.pth")
    with pytest.raises(GokuError, match="cannot be read as a file of tensors"):
        read_tensors(tmp_path / "bad.pth", ("model",))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(GokuError, match="holds no table of tensors"):
        read_tensors(tmp_path / "good.pth", ("state_dict",))


ACTIONS = (
    "riding a bike",
    "marching",
    "Dodgeball",
    "playing cymbals",
    "checking tires",
    "roller skating",
    "tango dancing",
)


def bench(folder, sure=(), mode="corrected"):
    """A tiny network whose logits are these, whatever it sees, or, with none given, drawn at random."""
    torch.manual_seed(0)
    network = umt.Umt(TINY)
    if len(sure):
        torch.nn.init.zeros_(network.head.weight)
        network.head.bias.data = torch.tensor(sure, dtype=torch.float32)
    path = folder / umt.SOURCE.place
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    (folder / human_action.ACTIONS.place).write_text("".join(f"{a}\t{k}\n" for k, a in enumerate(ACTIONS)))
    return HumanActionJudge(Bench(weights=folder, mode=mode), TINY)


def seen(text, metadata=None):
    prompt = Prompt("vbench-00000", text, "", ("human_action",), metadata or {})
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    return Seen(plan("vbench", "video", [prompt], 1, 0)[0], frames, 8.0, "0" * 64)


def test_an_action_is_right_among_the_five_best_above_the_threshold(tmp_path):
    logit = math.log(0.85 / 0.15)
    judge = bench(tmp_path, (logit + 6, logit + 5, logit + 4, logit - 0.01, logit + 3, logit + 2, logit + 1))
    verdicts = {a: judge.judge([seen(f"A person is {a}")])[0] for a in ACTIONS}
    assert [a for a in ACTIONS if verdicts[a].verdict] == [a for k, a in enumerate(ACTIONS) if k not in (3, 6)]
    wrong = verdicts["tango dancing"]  # sure enough, but the sixth
    assert wrong.score == 0.0 and "tango dancing wanted; riding a bike, marching" in wrong.reason
    best = verdicts["marching"].evidence["best"]
    assert [a for a, _ in best] == ["riding a bike", "marching", "dodgeball", "checking tires", "roller skating"]
    assert best[0][1] == pytest.approx(1 / (1 + math.exp(-logit - 6)), abs=1e-5)


def test_official_mode_rounds_before_it_compares(tmp_path):
    just_below = math.log(0.84996 / 0.15004)
    logits = (just_below, *[-3.0] * 6)
    official, corrected = (bench(tmp_path / m, logits, m) for m in ("official", "corrected"))
    asked = seen("A person is riding a bike")
    assert official.judge([asked])[0].verdict and not corrected.judge([asked])[0].verdict
    assert official.fingerprint != corrected.fingerprint


def test_official_mode_reads_file_names_and_corrected_mode_the_manifest(tmp_path):
    logits = (4.0, *[-4.0] * 6)
    asked = seen("In a low-lit street a person is riding a bike")
    official, corrected = (bench(tmp_path / m, logits, m) for m in ("official", "corrected"))
    wrong = official.judge([asked])[0]
    assert not wrong.verdict and wrong.evidence["wanted"] == "in a low"  # cut at the first "-" of the name
    assert corrected.judge([asked])[0].verdict
    named = seen("Somebody on two wheels", {"auxiliary_info": {"human_action": {"human_action": "riding a bike"}}})
    assert corrected.judge([named])[0].verdict
    with pytest.raises(GokuError, match=r'"flying" of its prompt .* is none of the 7'):
        corrected.judge([seen("A person is flying")])


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="needs the benchmark's files in ../shared/benchmarks")
def test_on_vbenchs_own_prompts_file_name_and_manifest_say_the_same():
    actions = read_actions(OFFICIAL / "kinetics_400_categories.txt")
    assert len(actions) == len(set(actions)) == 400 and actions[1] == "marching"
    prompts = (OFFICIAL / "prompts_per_dimension/human_action.txt").read_text(encoding="utf-8").splitlines()
    assert len(prompts) == 100
    for text in prompts:
        prompt = Prompt("vbench-00000", text, "", ("human_action",))
        sample = plan("vbench", "video", [prompt], 1, 0)[0]
        assert action_of(prompt) == action_of_file(human_action.file_name(sample)) in actions


def test_a_broken_list_of_actions_is_named(tmp_path):
    path = tmp_path / "list.txt"
    for text, told in (("marching\t0\nriding a bike\n", "line 2"), ("marching\t1\n", "are not 0 to 0")):
        path.write_text(text)
        with pytest.raises(GokuError, match=told):
            read_actions(path)


def test_check_refuses_a_network_that_does_not_look(tmp_path):
    judge = bench(tmp_path, (1.0, -2.0, 0.5, 3.0, 0.0, 1.0, 2.0))
    with pytest.raises(GokuError, match="a bouncing ball and an empty room are the same to it"):
        judge.check()
    with pytest.raises(GokuError, match=r"its logits differ by 0\.0000 only"):
        bench(tmp_path, (1.0,) * 7).check()
    bench(tmp_path).check()  # no render has an answer that is known, so random weights that look do pass


def test_without_weights_the_judge_says_how_to_get_them(tmp_path):
    judge = judge_named("human_action", Bench(weights=tmp_path))
    assert "hf download OpenGVLab/VBench_Used_Models" in judge.missing()
    (tmp_path / "umt").mkdir()
    (tmp_path / umt.SOURCE.place).touch()
    assert "kinetics_400_categories.txt" in judge.missing()
