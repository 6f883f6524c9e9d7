"""DPG-Bench: the parent rule in the order of the file, and categories in both ways."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.evaluate.benchmarks.benchmark import benchmark_named
from goku_core.evaluate.benchmarks.dpg import Question, propagated, right
from goku_core.evaluate.manifest import Prompt, plan
from goku_core.evaluate.records import Record


def recursive(order: list[int], parents: dict[int, list[int]], answers: dict[int, str]) -> dict[int, float]:
    """The rule without any state: a parent counts with its final score where it stands before, with its answer where after."""

    def final(number: int) -> float:
        place = order.index(number)
        for parent in parents[number]:
            before = parent != 0 and order.index(parent) < place
            if parent != 0 and not (final(parent) if before else answers[parent] == "yes"):
                return 0.0
        return float(answers[number] == "yes")

    return {number: final(number) for number in order}


@st.composite
def trees(draw):
    count = draw(st.integers(1, 8))
    order = draw(st.permutations(range(1, count + 1)))
    parents = {n: draw(st.lists(st.integers(0, count).filter(lambda p, n=n: p != n), max_size=3)) for n in order}
    answers = {n: draw(st.sampled_from(["yes", "no", "yes.", "Yes"])) for n in order}
    return order, parents, answers


@settings(max_examples=300, deadline=None)
@given(trees())
def test_the_rule_in_place_is_the_recursive_one(tree):
    order, parents, answers = tree
    questions = [Question(n, tuple(parents[n]), "", "") for n in order]
    assert propagated(questions, answers) == recursive(order, parents, answers)


def test_a_no_runs_down_the_tree_where_parents_come_first_and_only_there():
    chain = [Question(1, (0,), "", ""), Question(2, (1,), "", ""), Question(3, (2,), "", "")]
    answers = {1: "no", 2: "yes", 3: "yes"}
    assert propagated(chain, answers) == {1: 0, 2: 0, 3: 0}
    one_step = {
        q.number: right(chain, answers)[q.number] * all(p == 0 or answers[p] == "yes" for p in q.parents) for q in chain
    }
    assert one_step == {1: 0, 2: 0, 3: 1}, "a rule that looks at the answers alone lets the grandchild live"
    assert propagated(chain[::-1], answers) == one_step, "in the order of the file, and here the parents come last"


QUESTIONS = [
    {"id": 1, "dependency": [], "tuple": "entity - whole (dog)", "question": "Is there a dog?"},
    {"id": 2, "dependency": [1], "tuple": "attribute - color (dog, red)", "question": "Is the dog red?"},
    {"id": 3, "dependency": [2], "tuple": "attribute - size (dog, big)", "question": "Is the dog big?"},
]
TILES = [("yes", "yes", "yes"), ("no", "yes", "yes"), ("yes", "no", "yes"), ("no", "yes", "no")]


def evaluation(first_of_file: bool = False):
    """Two prompts; all tiles of the second are right. The first question of the first may be the file's first row."""
    prompts = [
        Prompt("dpg-00000", "a dog", "", ("dpg",), {"questions": QUESTIONS, "first_of_file": first_of_file}),
        Prompt("dpg-00001", "a cat", "", ("dpg",), {"questions": QUESTIONS[:1]}),
    ]
    samples = plan("dpg", "image", prompts, 4, 0)
    rows = []
    for s in samples:
        said = TILES[s.index] if s.prompt.prompt_id.endswith("0") else ("yes",)
        answers = json.dumps({"answers": {str(i): a for i, a in enumerate(said, 1)}})
        rows.append(
            Record(s.sample_id, "dpg", "dpg", "", s.prompt.text, s.seed, "mplug", "", 0.5, 3, None, "", answers)
        )
    return rows, samples


def scores(mode: str, rows, samples) -> dict[str, float]:
    table = benchmark_named("dpg").aggregate(rows, samples, mode, 20, 0)
    return {line.name: line.score.value for line in (*table.lines, table.total)}


def test_overall_and_categories_in_both_ways():
    """Tiles of the first prompt after the rule: 1, 0, 1/3, 0. Last tile before it: dog no, red yes, big no."""
    rows, samples = evaluation()
    official, corrected = scores("official", rows, samples), scores("corrected", rows, samples)
    assert official["total"] == corrected["total"] == pytest.approx(((1 + 0 + 1 / 3 + 0) / 4 + 1) / 2)
    assert (official["L1 entity"], official["L1 attribute"]) == (1 / 2, 1 / 2)
    assert (official["L2 attribute - color"], official["L2 attribute - size"]) == (1, 0)
    assert (corrected["L1 entity"], corrected["L1 attribute"]) == (6 / 8, 2 / 8)
    line = next(
        e for e in benchmark_named("dpg").aggregate(rows, samples, "corrected", 20, 0).lines if e.name == "L1 attribute"
    )
    assert line.more == {"official": 1 / 2, "before_rule": 6 / 8}


def test_official_drops_the_first_row_and_the_prompt_that_hangs_on_it():
    rows, samples = evaluation(first_of_file=True)
    assert scores("official", rows, samples)["total"] == 1.0
    assert scores("corrected", rows, samples)["total"] == pytest.approx((1 / 3 + 1) / 2)
    notes = benchmark_named("dpg").aggregate(rows, samples, "official", 20, 0).notes
    assert any("fails on a missing parent: dpg-00000" in note for note in notes)


def test_scores_without_answers_have_an_overall_and_no_categories():
    rows, samples = evaluation()
    bare = [Record(**{**vars(r), "evidence": "{}", "score": 0.25}) for r in rows]
    assert scores("official", bare, samples) == {"overall": 0.25, "total": 0.25}


def test_a_missing_tile_takes_the_total():
    rows, samples = evaluation()
    table = benchmark_named("dpg").aggregate(rows[1:], samples, "corrected", 20, 0)
    assert table.total.score is None and "1 of 8 records missing" in table.lines[0].lacks
