"""GenEval's verdict rule on hand-made detections and on the official metadata."""

from pathlib import Path

import pytest

from goku_core.evaluate.judges.contour import ContourJudge
from goku_core.evaluate.judges.detector import Detection, usable
from goku_core.evaluate.suite import image_prompts, read_metadata, write_metadata
from goku_core.evaluate.verdict import judge_image, relations
from goku_core.pipeline.errors import GokuError

OFFICIAL = Path(__file__).parents[2] / "../shared/benchmarks/geneval/evaluation_metadata.jsonl"


def seen(label, box=(0, 0, 10, 10), color=None, score=0.9):
    return Detection(label, score, tuple(map(float, box)), 100.0, color)


def test_count_needs_that_many_and_exclude_forbids_one_more():
    asked = {"include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}]}
    verdicts = [judge_image({"clock": [seen("clock")] * n}, asked) for n in range(5)]
    assert [v.correct for v in verdicts] == [False, False, True, False, False]
    assert verdicts[1].reason == "expected clock>=2, found 1"
    assert verdicts[3].reason == "expected clock<3, found 3"


def test_colour_is_asked_of_the_best_count_detections_only():
    """The official rule: a second, less sure thing of the right colour does not help."""
    asked = {"include": [{"class": "cup", "count": 1, "color": "red"}]}
    assert judge_image({"cup": [seen("cup", color="red"), seen("cup", color="blue")]}, asked).correct
    assert not judge_image({"cup": [seen("cup", color="blue"), seen("cup", color="red")]}, asked).correct


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((20, 0, 30, 10), {"right of"}),
        ((-20, 0, -10, 10), {"left of"}),
        ((0, -20, 10, -10), {"above"}),
        ((0, 20, 10, 30), {"below"}),
        ((20, 20, 30, 30), {"right of", "below"}),  # the diagonal holds both
        ((2, 0, 12, 10), set()),  # inside the margin of 0.1 x (10 + 10)
        ((5, 0, 15, 10), {"right of"}),  # (5 - 2) / 5 = 0.6 > 0.5
        ((4, 0, 14, 10), set()),  # (4 - 2) / 4 = 0.5, not above 0.5
    ],
)
def test_relations(box, expected):
    assert relations(seen("a", box), seen("b")) == expected


def test_position_of_every_one_against_every_reference():
    asked = {
        "include": [{"class": "b", "count": 1}, {"class": "a", "count": 2, "position": ["right of", 0]}],
    }
    right, left = seen("a", (30, 0, 40, 10)), seen("a", (-30, 0, -20, 10))
    assert judge_image({"a": [right, right], "b": [seen("b")]}, asked).correct
    assert "found left of target" in judge_image({"a": [right, left], "b": [seen("b")]}, asked).reason
    assert "no target" in judge_image({"a": [right, right]}, asked).reason


def test_threshold_and_sixteen_at_most():
    judge = ContourJudge()
    things = [seen("circle", score=0.2), *[seen("circle", score=0.5 + i / 100) for i in range(20)]]
    best = usable(things, judge, "counting")["circle"]
    assert len(best) == 16 and best[0].score == 0.69 and all(d.score > 0.3 for d in best)


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="the official GenEval metadata is not beside this checkout")
def test_official_metadata_is_read_and_a_perfect_picture_satisfies_each_line():
    prompts = read_metadata(OFFICIAL)
    assert len(prompts) == 553 and {p.task for p in prompts} >= {"position", "color_attr"}
    for prompt in prompts:
        things = perfect(prompt.metadata)
        assert judge_image(things, prompt.metadata).correct, prompt.text
        emptied = {name: group[1:] for name, group in things.items()}
        assert not judge_image(emptied, prompt.metadata).correct, prompt.text


def perfect(metadata):
    """Detections that a metadata line asks for, set out in the wanted direction from the first."""
    away = {"left of": (-100, 0), "right of": (100, 0), "above": (0, -100), "below": (0, 100)}
    found = {}
    for place, clause in enumerate(metadata["include"]):
        x, y = away[clause["position"][0]] if "position" in clause else (0, place * 200)
        for i in range(clause["count"]):
            box = (x, y + i, x + 10, y + 10 + i)
            found.setdefault(clause["class"], []).append(seen(clause["class"], box, clause.get("color")))
    return found


def test_our_suite_is_in_the_official_format(tmp_path):
    prompts = image_prompts(20, seed=3)
    write_metadata(tmp_path / "m.jsonl", prompts)
    again = read_metadata(tmp_path / "m.jsonl")
    assert [p.metadata for p in again] == [p.metadata for p in prompts]
    assert len({p.text for p in prompts}) == len(prompts)


def test_a_line_out_of_format_is_named(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"tag": "t", "prompt": "p", "include": [{"class": "a"}]}\n')
    with pytest.raises(GokuError, match="line 1"):
        read_metadata(tmp_path / "m.jsonl")
