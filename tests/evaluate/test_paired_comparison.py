"""Two models on the same prompts: intervals of the difference, what can be detected, and what is no finding."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.evaluate.benchmarks.compare import compare
from goku_core.evaluate.manifest import Prompt, Sample, plan
from goku_core.evaluate.records import Record
from goku_core.evaluate.statistics import detectable, holm, prompts_needed, resampled, tail, weighted_mean
from goku_core.pipeline.errors import GokuError

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")


def planned(per_task: int, seed: int = 0) -> list[Sample]:
    prompts = [
        Prompt(f"geneval-{i:05d}", str(i), task, ("geneval",))
        for i, task in enumerate(t for t in TASKS for _ in range(per_task))
    ]
    return plan("geneval", "image", prompts, 4, seed)


def judged(samples: list[Sample], right: np.ndarray) -> list[Record]:
    return [
        Record(s.sample_id, "geneval", "geneval", s.task, "", s.seed, "j", "", float(r), 1, bool(r), "", "{}")
        for s, r in zip(samples, right, strict=True)
    ]


def test_a_model_beside_itself_is_no_finding():
    samples = planned(10)
    rows = judged(samples, np.random.default_rng(0).random(len(samples)) < 0.6)
    found = compare("geneval", (rows, samples), (rows, samples), "official", 500, 1)
    assert all(line.value == line.low == line.high == 0 and line.p == 1 and not line.finding for line in found.lines)
    assert found.notes[-1] == "Not a finding: no line differs by more than its noise."
    assert all("nothing is known of smaller differences" in words for words in found.words().values())


def test_pairing_sees_what_two_separate_intervals_do_not():
    """Prompts that are easy for both or hard for both: the second is right on one picture more of every prompt."""
    samples = planned(20)
    hard = np.repeat(np.random.default_rng(1).integers(0, 4, len(samples) // 4), 4)
    first, second = (np.array([s.index for s in samples]) < hard + more for more in (0, 1))
    found = compare(
        "geneval", (judged(samples, first), samples), (judged(samples, second), samples), "official", 500, 1
    )
    total = found.lines[-1]
    assert total.name == "total" and total.value == pytest.approx(0.25) and total.finding
    assert total.low == pytest.approx(0.25, abs=1e-9) and total.high == pytest.approx(0.25, abs=1e-9)
    assert total.adjusted == pytest.approx(len(found.lines) * 2 / 501)
    assert "a finding" in found.words()["total"] and "not among" not in found.words()["total"]


def test_interval_and_detectable_difference_are_those_of_the_normal_theory():
    """Independent verdicts: the standard error of the total's difference is known from each task's paired spread."""
    samples, rng = planned(60), np.random.default_rng(4)
    first, second = rng.random(len(samples)) < 0.60, rng.random(len(samples)) < 0.63
    found = compare(
        "geneval", (judged(samples, first), samples), (judged(samples, second), samples), "official", 3000, 1
    )
    total = found.lines[-1]
    by_prompt = (second.astype(float) - first).reshape(-1, 4).mean(axis=1).reshape(6, 60)
    error = np.sqrt((by_prompt.var(axis=1) / 60).sum()) / 6
    assert total.high - total.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert total.detectable == pytest.approx((1.959964 + 0.841621) * error, rel=0.08)
    assert total.value == pytest.approx(by_prompt.mean())


def test_power_of_the_detectable_difference_is_four_in_five():
    """Draw experiments at exactly that difference: about 80 % of them are significant."""
    spread, prompts, rng = 0.4, 100, np.random.default_rng(5)
    least = detectable(spread, prompts)
    runs = rng.normal(least, spread, size=(4000, prompts))
    seen = np.abs(runs.mean(axis=1)) / (runs.std(axis=1, ddof=1) / np.sqrt(prompts)) > 1.96
    assert seen.mean() == pytest.approx(0.8, abs=0.03)
    assert prompts_needed(spread, least) in (prompts, prompts + 1)
    assert prompts_needed(spread, least / 2) == pytest.approx(4 * prompts, abs=2)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_of_a_tail():
    assert tail(np.array([0.1] * 97 + [-0.1] * 2)) == pytest.approx(2 * 3 / 100)
    assert tail(np.zeros(9)) == 1.0


def test_few_prompts_and_many_lines_make_no_finding_of_a_single_one():
    """No difference anywhere: among many lines some p is small, and the adjusted one is not."""
    samples, rng = planned(15), np.random.default_rng(11)
    alone, together = 0, 0
    for seed in range(40):
        sides = [(judged(samples, rng.random(len(samples)) < 0.5), samples) for _ in range(2)]
        found = compare("geneval", *sides, "official", 400, seed)
        alone += any(line.p < 0.05 for line in found.lines)
        together += any(line.adjusted < 0.05 for line in found.lines)
    assert alone > together and together <= 6, "one in twenty of the families, give or take"


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_the_order_of_rows_never_matters(shuffle):
    samples, rng = planned(3), np.random.default_rng(2)
    first, second = (judged(samples, rng.random(len(samples)) < p) for p in (0.4, 0.6))
    mixed = [list(first), list(samples), list(second)]
    for number, rows in enumerate(mixed):
        random.Random(shuffle + number).shuffle(rows)
    plain = compare("geneval", (first, samples), (second, samples), "official", 100, 3)
    assert compare("geneval", (mixed[0], mixed[1]), (mixed[2], samples), "official", 100, 3) == plain


def test_other_prompts_are_an_error_and_other_seeds_are_said():
    samples = planned(2)
    rows = judged(samples, np.ones(len(samples), bool))
    other = [
        replace(s, prompt=replace(s.prompt, text="else")) if s.prompt.prompt_id == "geneval-00001" else s
        for s in samples
    ]
    with pytest.raises(GokuError, match="1 differ, first geneval-00001"):
        compare("geneval", (rows, samples), (rows, other), "official", 10, 0)
    reseeded = planned(2, seed=9)
    found = compare("geneval", (rows, samples), (judged(reseeded, np.ones(48, bool)), reseeded), "official", 10, 0)
    assert any("other seeds" in note for note in found.notes)
    missing = compare("geneval", (rows[1:], samples), (rows, samples), "official", 10, 0)
    assert "total" not in {line.name for line in missing.lines}
    assert any(reason.startswith("single_object: 1 of 8 records missing") for reason in missing.left_out)


def test_lines_that_share_prompts_are_drawn_together():
    """A line and its double: their difference has no spread, because both see the same drawn prompts."""
    values = {f"p{i}": (float(i % 3), 2.0) for i in range(30)}
    drawn = resampled(
        {"a": values, "b": {p: (2 * s, 2 * w) for p, (s, w) in values.items()}}, dict.fromkeys(values, "x"), 50, 0
    )
    assert np.array_equal(drawn["a"], drawn["b"]) and drawn["a"].std() > 0
    assert weighted_mean(values) == 0.5
