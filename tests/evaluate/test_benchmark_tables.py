"""Tables of the benchmarks: the official rules by hand, both modes, and what happens when records are missing."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.evaluate.benchmarks import coverage, sets, vbench
from goku_core.evaluate.benchmarks.benchmark import BENCHMARKS, benchmark_named
from goku_core.evaluate.manifest import Prompt, Sample, plan
from goku_core.evaluate.records import Record
from goku_core.evaluate.statistics import percentiles, resampled
from goku_core.evaluate.tables import Table, modes_apart
from goku_core.pipeline.errors import GokuError

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")


def judged(sample: Sample, dimension: str, score: float, count: int = 1, verdict: bool | None = None, **more) -> Record:
    base = Record(
        sample.sample_id, sample.benchmark, dimension, sample.task, sample.prompt.text, sample.seed, "judge-1", "",
        score, count, verdict, "", "{}",
    )  # fmt: skip
    return replace(base, **more)


def pictures(per_task: int, per_prompt: int = 4) -> list[Sample]:
    prompts = [
        Prompt(f"geneval-{i:05d}", f"prompt {i}", task, ("geneval",), {})
        for i, task in enumerate(t for t in TASKS for _ in range(per_task))
    ]
    return plan("geneval", "image", prompts, per_prompt, seed=1)


def clips(dimensions: dict[str, tuple[str, ...]], per_prompt: int = 1, benchmark: str = "vbench") -> list[Sample]:
    prompts = [Prompt(f"{benchmark}-{i:05d}", t, "", d, {}) for i, (t, d) in enumerate(dimensions.items())]
    return plan(benchmark, "video", prompts, per_prompt, seed=1)


def table(benchmark: str, records, samples, mode="official", resamples=300) -> Table:
    return benchmark_named(benchmark).aggregate(records, samples, mode, resamples, 7)


def line(found: Table, name: str):
    return next(entry for entry in (*found.lines, found.total) if entry.name == name)


# GenEval


def test_geneval_by_hand():
    """Shares 1, 3/4, 1/2, 1/4, 0, 1/2 of four pictures: the mean of the six is one half, whatever the numbers of prompts."""
    more = Prompt("geneval-00006", "more", "position", ("geneval",))
    samples = pictures(1) + plan("geneval", "image", [more], 4, 1)
    right = dict(zip(TASKS, (4, 3, 2, 1, 0, 2), strict=True))
    rows = [judged(s, "geneval", float(s.index < right[s.task]), verdict=s.index < right[s.task]) for s in samples]
    found = table("geneval", rows, samples)
    assert [line(found, t).score.value for t in TASKS] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.5]
    assert found.total.score.value == 0.5
    assert line(found, "correct_images").score.value == 12 / 28
    assert line(found, "correct_prompts").score.value == 5 / 7
    assert found.total.have == found.total.want == 28
    assert any("Not the prompts of the protocol of GenEval (single_object 1 of 80" in note for note in found.notes)


def test_geneval_interval_is_that_of_the_bootstrap_and_never_narrower_than_independent_pictures():
    rng = np.random.default_rng(3)
    samples = pictures(12)
    rows = [judged(s, "geneval", float(rng.random() < 0.7)) for s in samples]
    score = table("geneval", rows, samples, resamples=2000).total.score
    shares = [np.mean([r.score for r in rows if r.task == t]) for t in TASKS]
    half = 1.96 * np.sqrt(sum(p * (1 - p) / 48 for p in shares)) / 6
    assert score.high - score.low == pytest.approx(2 * half, rel=0.35)
    assert score.low < score.value < score.high


def test_a_missing_picture_is_no_zero_and_takes_the_total():
    samples = pictures(2)
    rows = [judged(s, "geneval", 1.0, verdict=True) for s in samples]
    lacking = [r for r in rows if r.sample_id != "geneval-00003-2"]
    found = table("geneval", lacking, samples)
    assert line(found, "two_object").score is None and found.total.score is None
    assert (
        "1 of 8 records missing" in line(found, "two_object").lacks
        and "geneval-00003-2" in line(found, "two_object").lacks
    )
    assert "two_object" in found.total.lacks
    assert line(found, "colors").score.value == 1.0
    nothing = table("geneval", [], samples)
    assert line(nothing, "colors").lacks.startswith("not evaluated: needs Mask2Former Swin-S")


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), min_size=48, max_size=48), st.integers(0, 2**32))
def test_the_order_of_rows_and_samples_never_matters(verdicts, shuffle):
    samples = pictures(2)
    rows = [judged(s, "geneval", float(v), verdict=v) for s, v in zip(samples, verdicts, strict=True)]
    mixed_rows, mixed_samples = list(rows), list(samples)
    random.Random(shuffle).shuffle(mixed_rows)
    random.Random(shuffle + 1).shuffle(mixed_samples)
    assert table("geneval", rows, samples, resamples=50) == table("geneval", mixed_rows, mixed_samples, resamples=50)


# VBench

SCALES = {  # min, max, weight as in scripts/constant.py, and by how much the total moves for +1 point of the raw score
    "subject_consistency": (0.1462, 1, 1, 0.144), "background_consistency": (0.2615, 1, 1, 0.167),
    "temporal_flickering": (0.6293, 1, 1, 0.332), "motion_smoothness": (0.7060, 0.9975, 1, 0.422),
    "dynamic_degree": (0, 1, 0.5, 0.0615), "aesthetic_quality": (0, 1, 1, 0.123), "imaging_quality": (0, 1, 1, 0.123),
    "object_class": (0, 1, 1, 0.022), "multiple_objects": (0, 1, 1, 0.022), "human_action": (0, 1, 1, 0.022),
    "color": (0, 1, 1, 0.022), "spatial_relationship": (0, 1, 1, 0.022), "scene": (0, 0.8222, 1, 0.027),
    "appearance_style": (0.0009, 0.2855, 1, 0.078), "temporal_style": (0, 0.364, 1, 0.061),
    "overall_consistency": (0, 0.364, 1, 0.061),
}  # fmt: skip


def by_hand(raw: dict[str, float]) -> tuple[float, float, float]:
    """Quality, semantic, total, from the published constants."""
    unit = {d: (raw[d] - low) / (high - low) for d, (low, high, _, _) in SCALES.items()}
    names = list(SCALES)
    quality = sum(unit[d] * SCALES[d][2] for d in names[:7]) / 6.5
    semantic = sum(unit[d] for d in names[7:]) / 9
    return quality, semantic, (4 * quality + semantic) / 5


def one_clip_each(raw: dict[str, float]) -> tuple[list[Record], list[Sample]]:
    samples = clips({f"clip of {d}": (d,) for d in SCALES})
    return [judged(s, s.prompt.dimensions[0], raw[s.prompt.dimensions[0]]) for s in samples], samples


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=16, max_size=16))
def test_vbench_total_is_that_of_the_published_constants(values):
    raw = dict(zip(SCALES, values, strict=True))
    found = table("vbench", *one_clip_each(raw), resamples=20)
    quality, semantic, total = by_hand(raw)
    assert line(found, "quality").score.value == pytest.approx(quality, abs=1e-12)
    assert line(found, "semantic").score.value == pytest.approx(semantic, abs=1e-12)
    assert found.total.score.value == pytest.approx(total, abs=1e-12)


def test_vbench_does_not_clamp_and_says_how_much_each_dimension_moves_the_total():
    found = table("vbench", *one_clip_each(dict.fromkeys(SCALES, 1.0)), resamples=20)
    assert line(found, "motion_smoothness").more["normalised"] == pytest.approx(0.294 / 0.2915)
    for name, (_, _, weight, moves) in SCALES.items():
        assert line(found, name).more["weight"] == weight
        assert line(found, name).more["moves_total"] == pytest.approx(moves, abs=6e-4), name


def test_official_weighs_frames_and_corrected_prompts():
    """A long clip of 0.9 and short ones of 0.3 and 0.6, two of them of one prompt."""
    samples = clips({"one": ("scene",), "two": ("scene",)}, per_prompt=2)[:3]
    rows = [
        judged(samples[0], "scene", 0.9, 90),
        judged(samples[1], "scene", 0.3, 10),
        judged(samples[2], "scene", 0.6, 10),
    ]
    assert line(table("vbench", rows, samples), "scene").score.value == pytest.approx((81 + 3 + 6) / 110)
    assert line(table("vbench", rows, samples, "corrected"), "scene").score.value == pytest.approx((0.6 + 0.6) / 2)
    clipwise = [replace(r, dimension="aesthetic_quality") for r in rows]
    asked = [replace(s, prompt=replace(s.prompt, dimensions=("aesthetic_quality",))) for s in samples]
    assert line(table("vbench", clipwise, asked), "aesthetic_quality").score.value == pytest.approx(0.6)
    assert any("a long clip weighs more" in note for note in table("vbench", rows, samples).notes)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["official", "corrected"]))
def test_the_order_never_matters_to_weighted_means_either(shuffle, mode):
    rng = np.random.default_rng(shuffle)
    dimensions = ("scene", "subject_consistency", "imaging_quality")
    samples = clips({f"clip {i}": dimensions[: 1 + i % 3] for i in range(9)}, per_prompt=3)
    rows = [judged(s, d, rng.random(), int(rng.integers(1, 90))) for s in samples for d in s.prompt.dimensions]
    mixed = [rows[i] for i in rng.permutation(len(rows))]
    assert table("vbench", mixed, [samples[i] for i in rng.permutation(27)], mode, 40) == table(
        "vbench", rows, samples, mode, 40
    )


def test_what_the_official_defects_are_worth_is_said():
    samples = clips({"one": ("scene",), "two": ("scene", "imaging_quality")})
    rows = [
        judged(samples[0], "scene", 0.9, 90),
        judged(samples[1], "scene", 0.3, 10),
        judged(samples[1], "imaging_quality", 0.5),
    ]
    official, corrected = (table("vbench", rows, samples, mode) for mode in ("official", "corrected"))
    assert modes_apart(official, corrected) == (
        "scene: 0.840000 as the official code has it, 0.600000 corrected (-0.240000)",
    )
    assert modes_apart(official, official) == ("The official and the corrected rule give the same scores here.",)


def test_a_dimension_without_a_judge_is_not_evaluated_and_takes_the_total():
    rows, samples = one_clip_each(dict.fromkeys(SCALES, 0.5))
    found = table("vbench", [r for r in rows if r.dimension != "scene"], samples)
    assert line(found, "scene").score is None and line(found, "scene").lacks.startswith(
        "not evaluated: needs Tag2Text Swin-B"
    )
    assert line(found, "quality").score is not None
    assert line(found, "semantic").score is None and found.total.score is None and "scene" in found.total.lacks
    assert (line(found, "scene").have, line(found, "scene").want) == (0, 1)
    assert line(found, "scene").more["moves_total"] > 0


def test_clips_that_name_no_colour_are_left_out_and_all_of_them_are_no_score():
    samples = clips({"a": ("color",), "b": ("color",)})
    rows = [judged(samples[0], "color", 0.5), judged(samples[1], "color", 0.0, count=0)]
    found = table("vbench", rows, samples)
    assert line(found, "color").score.value == 0.5 and line(found, "color").have == 2
    assert any("1 clips name no colour" in note for note in found.notes)
    none = table("vbench", [replace(r, count=0) for r in rows], samples)
    assert line(none, "color").score is None and "none holds anything" in line(none, "color").lacks


def test_the_static_filter_keeps_five_by_name_or_by_number():
    """Clips 2 to 24 stand still: by number the first five are 2..6, by file name 10, 11, 12, 13, 14."""
    samples = clips({"still": ("temporal_flickering",)}, per_prompt=25)
    rows = [judged(s, "temporal_flickering", s.index / 100) for s in samples]
    rows += [judged(s, vbench.STATIC, float(s.index > 1), verdict=s.index > 1) for s in samples]
    corrected, official = (table("vbench", rows, samples, mode) for mode in ("corrected", "official"))
    assert line(corrected, "temporal_flickering").score.value == pytest.approx(0.04)
    assert line(official, "temporal_flickering").score.value == pytest.approx(0.12)
    unfiltered = table("vbench", rows[:25], samples)
    assert line(unfiltered, "temporal_flickering").score is None
    assert "needs RAFT" in line(unfiltered, "temporal_flickering").lacks


def test_intervals_of_a_handful_of_prompts_are_said_to_be_too_narrow():
    """And they are: means of ten normal values, their percentile intervals, how often these hold the truth."""
    rows, samples = one_clip_each(dict.fromkeys(SCALES, 0.5))
    assert any(
        note.startswith("Fewer than 10 prompts in subject_consistency") for note in table("vbench", rows, samples).notes
    )
    rng, held = np.random.default_rng(0), 0
    for trial in range(200):
        values = {f"p{i}": (float(v), 1.0) for i, v in enumerate(rng.normal(size=10))}
        drawn = resampled({"x": values}, dict.fromkeys(values, "s"), 400, trial)["x"]
        low, high = percentiles(drawn)
        held += low <= 0 <= high
    assert 0.84 <= held / 200 <= 0.94


def test_two_judges_of_one_dimension_are_an_error_until_one_is_chosen():
    rows, samples = one_clip_each(dict.fromkeys(SCALES, 0.5))
    other = [replace(r, judge="dino/2", score=0.9) for r in rows if r.dimension == "subject_consistency"]
    with pytest.raises(GokuError, match=r"vbench/subject_consistency was judged by 2 judges: dino/2 and judge-1"):
        table("vbench", rows + other, samples)
    chosen = table("vbench", coverage.chosen(rows + other, "dino"), samples)
    assert line(chosen, "subject_consistency").score.value == 0.9 and line(chosen, "scene").score.value == 0.5
    with pytest.raises(GokuError, match="2 judges of these records begin with ''"):
        coverage.chosen(rows + other, "")


def test_of_two_judges_the_one_made_for_the_mode_is_taken():
    """scene: one judge, asked once in the mode that makes no difference to it; it speaks in both tables."""
    samples = clips({"left of": ("spatial_relationship", "scene")})
    modes = {"grit-a": ["official"], "grit-b": ["corrected"], "tag": ["corrected"]}
    rows = [judged(samples[0], "spatial_relationship", s, judge=j) for j, s in (("grit-a", 1.0), ("grit-b", 0.0))]
    rows.append(judged(samples[0], "scene", 0.5, judge="tag"))
    for mode, score in (("official", 1.0), ("corrected", 0.0)):
        found = table("vbench", coverage.in_mode(rows, modes, mode), samples, mode)
        assert line(found, "spatial_relationship").score.value == score and line(found, "scene").score.value == 0.5
    assert coverage.in_mode(rows, {}, "official") == rows


def test_records_of_another_plan_are_an_error():
    rows, samples = one_clip_each(dict.fromkeys(SCALES, 0.5))
    with pytest.raises(GokuError, match="1 judged samples are not in the manifest, for example vbench-00015-0"):
        table("vbench", rows, samples[:-1])


# the others


def test_vbench_i2v_halves_weigh_the_same():
    from goku_core.evaluate.benchmarks.vbench_i2v import DIMENSIONS

    values = {d: 0.5 + 0.03 * i for i, d in enumerate(DIMENSIONS)}
    samples = clips({d: (d,) for d in DIMENSIONS}, benchmark="vbench_i2v")
    found = table("vbench_i2v", [judged(s, s.prompt.text, values[s.prompt.text]) for s in samples], samples)

    def unit(name: str, low: float, high: float = 1.0) -> float:
        return (values[name] - low) / (high - low)

    given = (0.1 * values["camera_motion"] + unit("i2v_subject", 0.1462) + unit("i2v_background", 0.2615)) / 2.1
    quality = unit("subject_consistency", 0.1462) + unit("background_consistency", 0.2615)
    quality += unit("motion_smoothness", 0.706, 0.9975) + 0.5 * values["dynamic_degree"]
    quality = (quality + values["aesthetic_quality"] + values["imaging_quality"]) / 5.5
    assert found.total.score.value == pytest.approx((given + quality) / 2, abs=1e-12)


def test_vbench2_is_the_mean_of_five_groups_and_leaves_out_what_was_refused():
    from goku_core.evaluate.benchmarks.vbench2 import GROUPS

    values = {d: 0.1 * i + 0.05 * j for i, group in enumerate(GROUPS.values()) for j, d in enumerate(group)}
    samples = clips({d: (d,) for d in values}, per_prompt=3, benchmark="vbench2")
    rows = [
        judged(s, d, values[d] if s.index else 0.0, count=1 if s.index or d == "Diversity" else 0)
        for s in samples
        for d in s.prompt.dimensions
        if d != "Diversity"
    ]
    together = [s for s in samples if s.prompt.dimensions == ("Diversity",) and s.index == 0]
    rows += [judged(s, "Diversity", values["Diversity"]) for s in together]
    found = table("vbench2", rows, samples)
    groups = [np.mean([values[d] for d in group]) for group in GROUPS.values()]
    assert [line(found, name).score.value for name in GROUPS] == pytest.approx(groups)
    assert found.total.score.value == pytest.approx(np.mean(groups))
    assert len(values) == 18 and any("Material: 1 clips without an answer" in note for note in found.notes)
    order = [r if r.dimension != "Motion_Order_Understanding" else replace(r, count=0) for r in rows]
    kept = [r for r in order if r.dimension == "Motion_Order_Understanding"]
    assert line(table("vbench2", order, samples), "Motion_Order_Understanding").score.value == 0.0
    assert line(table("vbench2", order, samples, "corrected"), "Motion_Order_Understanding").score is None and kept


def test_compbench_complex_is_the_mean_of_the_scorers_of_its_kind_and_there_is_no_total():
    prompts = [
        Prompt("compbench-00000", "a", "color", ("color",)),
        Prompt("compbench-00001", "b", "complex", ("complex",), {"kind": "spatial"}),
        Prompt("compbench-00002", "c", "complex", ("complex",), {"kind": "spatialaction"}),
    ]
    samples = plan("compbench", "image", prompts, 1, 0)
    rows = [judged(samples[0], "color", 0.8)]
    for sample, scores in ((samples[1], (0.2, 0.6)), (samples[2], (0.3, 0.6, 0.9))):
        names = ("complex_attribute", "complex_spatial", "complex_action")
        rows += [judged(sample, name, score) for name, score in zip(names, scores, strict=False)]
    found = table("compbench", rows, samples)
    assert line(found, "complex").score.value == pytest.approx((0.4 + 0.6) / 2)
    assert line(found, "color").score.value == 0.8 and line(found, "shape").lacks.startswith("not planned")
    assert found.total.score is None and "no total" in found.total.lacks
    assert "UniDet RS200" in line(table("compbench", rows[:1], samples), "complex").lacks
    whole = [rows[0], judged(samples[1], "complex", 0.1), judged(samples[2], "complex", 0.5)]
    assert line(table("compbench", whole, samples), "complex").score.value == pytest.approx(0.3)


def test_clips_of_the_corpus_count_as_right_when_all_is_right():
    prompts = [
        Prompt(f"i2v-{i:05d}", str(i), "i2v", ("direction", "subject", "flicker", "first_frame_psnr")) for i in range(4)
    ]
    samples = plan("i2v", "video", prompts, 1, 0)
    rows = []
    for i, s in enumerate(samples):
        rows += [judged(s, "direction", float(i < 2), verdict=i < 2), judged(s, "subject", float(i > 0), verdict=i > 0)]
        rows += [judged(s, "flicker", 0.9), judged(s, "first_frame_psnr", 20.0 + i)]
    found = table("i2v", rows, samples, "corrected")
    assert found.total.score.value == 0.25 and line(found, "subject").score.value == 0.75
    assert line(found, "direction").more["chance"] == 0.25
    psnr = line(found, "first_frame_psnr")
    assert psnr.unit == "dB" and psnr.score.value == 21.5 and 20 <= psnr.score.low < 21.5 < psnr.score.high <= 23


def test_numbers_of_whole_sets_have_no_interval_and_need_the_whole_set():
    found = sets.set_table("imagenet", {"fid": 2.1572, "is": (261.1, 258.0, 264.0)}, 50000, 50000)
    assert (found.total.score.value, found.total.score.low) == (2.1572, None)
    assert line(found, "is").score.high == 264.0 and line(found, "sfid").score is None
    assert sets.set_table("ucf101", {"fvd": 200.0}, 100, 13320).total.score is None
    with pytest.raises(GokuError, match="imagenet has no fvd"):
        sets.set_table("imagenet", {"fvd": 1.0}, 1, 1)
    samples = plan("ucf101", "video", [Prompt("ucf101-00000", "Archery", "", ("fvd",))], 3, 0)
    again = table("ucf101", [sets.set_record("ucf101", "fvd", 217.24, 3, "i3d/1")], samples)
    assert again.total.score.value == 217.24 and again.total.have == 3


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_is_there_and_names_its_modes_and_licence(name, tmp_path: Path):
    found = benchmark_named(name)
    assert found.name == name and found.modes and found.licence
    with pytest.raises(GokuError):
        found.aggregate([], [], "neither", 10, 0)
