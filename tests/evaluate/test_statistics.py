"""Intervals, chance, records."""

import math

import numpy as np
import pytest

from goku_core.evaluate import records
from goku_core.evaluate.ground_truth import vocabulary_chance
from goku_core.evaluate.records import Record, RecordStore, evidence, require_complete
from goku_core.evaluate.statistics import bootstrap, overall, shuffled_chance, task_shares, wilson
from goku_core.evaluate.suite import image_prompts, image_samples
from goku_core.pipeline.errors import GokuError


def test_overall_is_the_unweighted_mean_of_tasks():
    by_prompt = {"a": {"p": [1, 1, 1, 1]}, "b": {"q": [0, 0, 0, 0], "r": [1, 0, 1, 0]}}
    assert task_shares(by_prompt) == {"a": 1.0, "b": 0.25}
    assert overall(task_shares(by_prompt)) == 0.625


def test_interval_is_over_prompts_and_covers():
    """Pictures of a prompt that agree fully carry the information of one: the interval must be as wide as for one."""
    rng = np.random.default_rng(0)
    once = {f"p{i:02d}": [float(v)] for i, v in enumerate(rng.random(60) < 0.7)}
    scores, _ = bootstrap({"t": once}, 2000, seed=1)
    four, whole = bootstrap({"t": {k: v * 4 for k, v in once.items()}}, 2000, seed=1)
    assert (four["t"].low, four["t"].high) == pytest.approx((scores["t"].low, scores["t"].high), abs=0.02)
    half = 1.96 * math.sqrt(0.7 * 0.3 / 60)
    assert four["t"].high - four["t"].low == pytest.approx(2 * half, rel=0.25)
    assert whole.low <= whole.value <= whole.high


def test_a_perfect_task_still_has_an_interval():
    scores, whole = bootstrap({"t": {f"p{i}": [1.0] for i in range(10)}}, 200, seed=0)
    assert scores["t"].low == pytest.approx(wilson(1.0, 10)[0]) and scores["t"].high == 1.0
    assert whole.value == 1.0


def test_order_of_prompts_does_not_matter():
    prompts = {f"p{i}": [float(i % 3 == 0)] * 4 for i in range(20)}
    backwards = dict(reversed(list(prompts.items())))
    assert bootstrap({"t": prompts}, 300, 0) == bootstrap({"t": backwards}, 300, 0)


def test_chance_of_shuffling_is_exact():
    assert shuffled_chance("aab", lambda x, y: x == y) == pytest.approx(2 / 6)
    assert math.isnan(shuffled_chance("a", lambda x, y: True))


def test_chance_from_the_vocabulary():
    asked = {p.task: p.metadata for p in image_prompts(200, seed=0)}
    expected = {"single_object": 4, "two_object": 6, "colors": 24, "position": 720, "color_attr": 180}
    assert {t: round(1 / vocabulary_chance(asked[t])) for t in expected} == expected


def test_tasks_with_few_prompts_get_more_pictures_of_each():
    prompts = image_prompts(20, seed=0)
    counts = {}
    for sample in image_samples(prompts, 20, 4, seed=0):
        counts[sample.prompt.task] = counts.get(sample.prompt.task, 0) + 1
    assert counts == dict.fromkeys(counts, 80) | {"two_object": 84}


def row(sample="geneval-00000-0", score=1.0, **changes):
    given = {"benchmark": "geneval", "dimension": "geneval", "task": "t", "prompt": "p", "seed": 1, "judge": "j"}
    given |= {"media": "", "count": 1, "verdict": True, "reason": ""}
    return Record(sample_id=sample, score=score, evidence=evidence(a=1), **(given | changes))


def test_store_appends_parts_and_tolerates_equal_repeats(tmp_path):
    store = RecordStore(tmp_path)
    store.append([row("geneval-00001-0")])
    store.append([row("geneval-00000-0"), row("geneval-00001-0")])
    assert [r.sample_id for r in store.rows()] == ["geneval-00000-0", "geneval-00001-0"]
    store.append([row("geneval-00000-0", score=0.0)])
    with pytest.raises(GokuError, match="disagree"):
        store.rows()


def test_a_missing_row_is_an_error():
    with pytest.raises(GokuError, match="1 of 2 records are missing, for example geneval-00001-0/geneval"):
        require_complete([row()], [row().key[:2], row("geneval-00001-0").key[:2]])


def test_bytes_do_not_depend_on_the_order(tmp_path):
    rows = [row(f"geneval-0000{i}-0") for i in range(5)]
    records.write(tmp_path / "a.parquet", rows)
    records.write(tmp_path / "b.parquet", rows[::-1])
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert records.read(tmp_path / "a.parquet") == rows


def test_intervals_are_never_narrower_than_for_independent_pictures():
    """Four prompts with equal shares: resampling them alone would claim to know the score exactly."""
    scores, whole = bootstrap({t: {f"p{i}": [1.0, 0.0] for i in range(4)} for t in "ab"}, 300, seed=0)
    low, high = wilson(0.5, 8)
    assert scores["a"].low <= low and scores["a"].high >= high
    assert whole.high - whole.low == pytest.approx((high - low) / math.sqrt(2), rel=0.05)
