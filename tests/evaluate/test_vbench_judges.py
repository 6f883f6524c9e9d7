"""VBench's judges on random weights of small networks: right weights asked for, answers by the rule, broken eyes noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_judges import random_dino, random_musiq
from tiny_scorers import aesthetic_head, pictures, random_raft, tiny_clip

from goku_core.evaluate.judges.judge import JUDGES, Bench, Seen, judge_named
from goku_core.evaluate.judges.vbench import flow, specimens
from goku_core.evaluate.manifest import Drawing, Prompt, Sample
from goku_core.pipeline.errors import GokuError

NAMES = [name for name, module in JUDGES.items() if ".judges.vbench." in module]
FRAMES = ("subject_consistency", "background_consistency", "aesthetic_quality", "imaging_quality", "appearance_style")
FLOW = ("dynamic_degree", "static_filter")
STYLE = {"auxiliary_info": {"appearance_style": {"appearance_style": "van gogh style"}}}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.save(random_dino().state_dict(), folder / "dino_vitbase16_pretrain.pth")
    tiny_clip(folder / "clip-vit-base-patch32")
    tiny_clip(folder / "clip-vit-large-patch14")
    aesthetic_head(folder / "sa_0_4_vit_l_14_linear.pth", linear=True)
    torch.save(random_musiq(), folder / "musiq_spaq_ckpt-358bb6af.pth")
    random_raft(folder / "raft_large_C_T_V1-22a6c259.pth", large=True)
    return folder


def seen(
    frames: np.ndarray, dimensions: tuple[str, ...], fps: float = 8.0, number: int = 0, planned: float | None = None
) -> Seen:
    prompt = Prompt(f"vbench-{number:05d}", "a boat, van gogh style", "", dimensions, STYLE)
    sample = Sample(f"{prompt.prompt_id}-0", "vbench", "video", prompt, prompt.text, 1, Drawing(fps=planned))
    return Seen(sample, frames, fps, "")


def clip(frames: int = 4, seed: int = 0, height: int = 36, width: int = 64) -> np.ndarray:
    return np.stack(pictures(frames, seed, height, width))


def test_every_judge_says_what_it_needs_before_it_loads_anything(tmp_path, weights) -> None:
    assert {"subject_consistency", "static_filter"} < set(NAMES) and len(NAMES) == 7
    for name in NAMES:
        there, not_there = (judge_named(name, Bench(weights=folder)) for folder in (weights, tmp_path))
        assert there.name == name and there.dimensions == {f"vbench/{name}"} and there.missing() == ""
        told = not_there.missing()
        assert str(tmp_path) in told and ("hf download" in told or "curl -L" in told) and "\n" not in told
        assert all(choice[0].get in told for choice in not_there.sources)
        with pytest.raises(GokuError, match="weights are missing"):
            not_there.judge([seen(clip(), (name,))])


@pytest.mark.parametrize("name", FRAMES)
def test_the_mean_of_frames_alone_or_in_company(name, weights) -> None:
    judge = judge_named(name, Bench(weights=weights, batch=3))
    one, other = seen(clip(4), (name, "human_action")), seen(clip(5, 9), (name,), number=1)
    (answer,) = judge.judge([one])
    assert judge.judge([other, one])[1] == answer  # bit for bit
    frames = answer.evidence["frames"]
    compares = name.endswith("consistency")
    assert len(frames) == answer.count == (3 if compares else 4)
    assert answer.score == pytest.approx(np.mean(frames), abs=1e-6) and len(set(frames)) > 1
    assert answer.verdict is None and answer.sample_id == "vbench-00000-0" and answer.dimension == name
    assert judge.judge([seen(clip(), ("scene",))]) == []  # not asked
    if compares:
        (still,) = judge.judge([seen(specimens.still(clip(1)[0], 5), (name,))])
        assert still.score == 1.0 and still.evidence["frames"] == [1.0] * 4
        with pytest.raises(GokuError, match="has one frame"):
            judge.judge([seen(clip(1), (name,))])


def test_the_frames_scores_are_the_networks(weights) -> None:
    """The same numbers from the parts: each network called by hand on one frame."""
    from goku_core.evaluate.networks.dino import load_dino
    from goku_core.evaluate.networks.musiq import load_musiq
    from goku_core.scorers.clip import Clip
    from goku_core.scorers.resizing import clip_pixels, clip_pixels_of_pictures, dino_pixels

    frames = clip(3, height=600, width=640)
    answers = {name: judge_named(name, Bench(weights=weights)).judge([seen(frames, (name,))])[0] for name in FRAMES}
    shown = {name: answer.evidence["frames"] for name, answer in answers.items()}
    vision = Clip(weights / "clip-vit-base-patch32")
    for name, network, prepare in (
        ("subject_consistency", load_dino(weights / "dino_vitbase16_pretrain.pth"), lambda f: dino_pixels(f, 224)),
        ("background_consistency", vision._vision[0], lambda f: clip_pixels(f, 32)),
    ):
        with torch.no_grad():
            rows = [network(prepare(frame[None])) for frame in frames]
        rows = [getattr(row, "image_embeds", row)[0] for row in rows]
        alike = [torch.cosine_similarity(rows[a], rows[b], dim=0).item() for a, b in ((0, 1), (1, 2), (0, 2))]
        assert shown[name] == pytest.approx([alike[0], (alike[1] + alike[2]) / 2], abs=1e-4)
    with torch.no_grad():
        looks = vision._vision[0](clip_pixels_of_pictures(frames, 32)).image_embeds
    words = torch.from_numpy(vision.texts(["van gogh style"])[0])
    assert shown["appearance_style"] == pytest.approx(
        torch.nn.functional.cosine_similarity(looks, words[None]).tolist(), abs=1e-5
    )
    assert answers["appearance_style"].evidence["style"] == "van gogh style"
    head = torch.load(weights / "sa_0_4_vit_l_14_linear.pth")
    with torch.no_grad():
        looks = torch.nn.functional.normalize(vision._vision[0](clip_pixels(frames, 32)).image_embeds, dim=-1)
    expected = (looks @ head["weight"].T + head["bias"])[:, 0] / 10
    assert shown["aesthetic_quality"] == pytest.approx(expected.tolist(), abs=1e-5)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    small = torch.nn.functional.interpolate(pixels, (480, 512), mode="bilinear", antialias=False) / 255
    expected = load_musiq(weights / "musiq_spaq_ckpt-358bb6af.pth")(small) / 100
    assert shown["imaging_quality"] == pytest.approx(expected.tolist(), abs=1e-5)


def test_style_words_come_from_the_metadata_and_from_nothing_else(weights) -> None:
    judge = judge_named("appearance_style", Bench(weights=weights))
    one = seen(clip(2), ("appearance_style",))
    plain = replace(one.sample.prompt, metadata={"appearance_style": "van gogh style"})
    assert judge.judge([replace(one, sample=replace(one.sample, prompt=plain))]) == judge.judge([one])
    bare = replace(one.sample.prompt, metadata={"auxiliary_info": {"color": {"color": "red"}}})
    with pytest.raises(GokuError, match=r"vbench-00000: its metadata lacks auxiliary_info.appearance_style"):
        judge.judge([replace(one, sample=replace(one.sample, prompt=bare))])


def test_fingerprints_name_weights_batch_and_mode_where_they_matter(weights, tmp_path) -> None:
    prints = {name: judge_named(name, Bench(weights=weights)).fingerprint for name in NAMES}
    assert len(set(prints.values())) == 7 and all(text.startswith(f"{name}-") for name, text in prints.items())
    changed = {
        name for name in NAMES if judge_named(name, Bench(weights=weights, mode="official")).fingerprint != prints[name]
    }
    assert changed == {"dynamic_degree"}  # elsewhere the modes differ in how records are summed up
    batched = {name for name in NAMES if judge_named(name, Bench(weights=weights, batch=4)).fingerprint != prints[name]}
    assert batched == set(FRAMES) - {"imaging_quality"}
    torch.save(random_musiq(5), tmp_path / "musiq_spaq_ckpt-358bb6af.pth")
    assert judge_named("imaging_quality", Bench(weights=tmp_path)).fingerprint != prints["imaging_quality"]


def test_flow_has_the_pictures_size_however_small_it_is(weights) -> None:
    network = flow.shared_raft(weights / "raft_large_C_T_V1-22a6c259.pth", "cpu")
    first, second = clip(2, height=62, width=131)
    found = flow.flow_between(network, first, second, "cpu")
    assert found.shape == (2, 64, 136)
    from torch.nn.functional import pad

    pixels = torch.from_numpy(np.stack([first, second])).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    filled = pad(pad(pixels, (2, 3, 1, 1), mode="replicate"), (0, 0, 32, 32), mode="replicate")
    with torch.no_grad():
        expected = network(filled[:1], filled[1:], updates=20)[0, :, 32:96]
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-3)


def test_moving_and_standing_still_are_decided_on_the_frames_the_rule_names(weights) -> None:
    frames = clip(5, height=40, width=64)
    judges = {
        mode: judge_named("dynamic_degree", Bench(weights=weights, mode=mode)) for mode in ("official", "corrected")
    }
    speeds = judges["official"].speeds(frames[::2])
    (answer,) = judges["official"].judge([seen(frames, ("dynamic_degree",), fps=16.0)])
    assert answer.evidence["pairs"] == pytest.approx(speeds, abs=1e-6) and answer.evidence["stride"] == 2
    least = 6.0 * 40 / 256
    assert answer.evidence["threshold"] == pytest.approx(least) and answer.evidence["needed"] == 1
    assert answer.verdict == (max(speeds) > least) == bool(answer.score) and answer.count == 1
    # Planned at 8 frames per second and saved at 16: "official" sees two frames, of which none needs to move.
    planned = seen(specimens.still(frames[0]), ("dynamic_degree",), fps=16.0, planned=8.0)
    official, corrected = (judges[mode].judge([planned])[0] for mode in ("official", "corrected"))
    assert (official.evidence["stride"], official.evidence["needed"], official.verdict) == (2, 0, True)
    assert (corrected.evidence["stride"], corrected.evidence["needed"]) == (1, 1)
    assert len(corrected.evidence["pairs"]) == 2
    with pytest.raises(GokuError, match="states no frame rate"):
        judges["official"].judge([seen(frames, ("dynamic_degree",), fps=0.0)])
    static = judge_named("static_filter", Bench(weights=weights))
    (answer,) = static.judge([seen(frames[:2], ("static_filter",))])
    assert len(answer.evidence["pairs"]) == 1 and len(answer.evidence["ends"]) == 2 and answer.verdict is False
    assert "pairs move more than" in answer.reason


def test_networks_that_see_nothing_fail_their_check(tmp_path, weights) -> None:
    blind = tmp_path / "blind"
    blind.mkdir()
    nothing = {name: torch.zeros_like(tensor) for name, tensor in random_dino().state_dict().items()}
    torch.save(nothing | {"norm.bias": torch.ones(128)}, blind / "dino_vitbase16_pretrain.pth")
    torch.save(
        {name: torch.zeros_like(t) for name, t in random_musiq().items()}, blind / "musiq_spaq_ckpt-358bb6af.pth"
    )
    for name, told in (("subject_consistency", "1.000 alike"), ("imaging_quality", "0.000 sharp and 0.000 blurred")):
        with pytest.raises(GokuError, match=f"{name} fails its check on built-in pictures: .*{told}.*SHA-256"):
            judge_named(name, Bench(weights=blind)).check()
    with pytest.raises(GokuError, match="dynamic_degree fails its check"):
        judge_named("dynamic_degree", Bench(weights=weights)).check()  # random weights know no motion


def test_eyes_that_tell_pictures_apart_pass(tmp_path) -> None:
    """Random weights, turned the right way round: what differs must be called different."""
    dino = random_dino().state_dict()
    dino |= {name: torch.zeros_like(dino[name]) for name in ("cls_token", "pos_embed")}  # nothing but the picture
    torch.save(dino, tmp_path / "dino_vitbase16_pretrain.pth")
    judge_named("subject_consistency", Bench(weights=tmp_path)).check()
    tensors = random_musiq()
    torch.save(tensors, tmp_path / "musiq_spaq_ckpt-358bb6af.pth")
    judge = judge_named("imaging_quality", Bench(weights=tmp_path))
    sharp = specimens.shapes()
    scores = judge.scores(np.stack([sharp, specimens.blurred(sharp, 6.0)]))
    if scores[0] < scores[1]:
        tensors["head.weight"] *= -1
        torch.save(tensors, tmp_path / "musiq_spaq_ckpt-358bb6af.pth")
    judge_named("imaging_quality", Bench(weights=tmp_path)).check()


def test_wrong_kinds_of_weights_are_refused(tmp_path, weights) -> None:
    (tmp_path / "clip-vit-large-patch14").symlink_to(weights / "clip-vit-large-patch14")
    aesthetic_head(tmp_path / "sa_0_4_vit_l_14_linear.pth")
    with pytest.raises(GokuError, match="head of five layers; VBench uses the linear one"):
        judge_named("aesthetic_quality", Bench(weights=tmp_path)).judge([seen(clip(), ("aesthetic_quality",))])
    random_raft(tmp_path / "raft_large_C_T_V1-22a6c259.pth")
    with pytest.raises(GokuError, match="holds the small RAFT"):
        judge_named("dynamic_degree", Bench(weights=tmp_path)).judge([seen(clip(), ("dynamic_degree",))])
