"""VBench's rules for what is in the frames, against loops written from the protocol and by their own symmetries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goku_core.evaluate.judges.objects.rules import (
    COLORS,
    DIRECTIONS,
    Thing,
    colored,
    frames_with,
    label_of,
    overlap,
    placed,
    related,
    two_labels,
)
from goku_core.pipeline.errors import GokuError

SUITE = Path(__file__).parents[3] / "shared/benchmarks/vbench/VBench_full_info.json"
RELATIONS = sorted(DIRECTIONS)
MIRROR = {"on the left of": "on the right of", "on the top of": "on the bottom of"}
MIRROR |= {other: one for one, other in MIRROR.items()}

boxes = st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(0, 30), st.integers(0, 30)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
things = st.builds(Thing, st.sampled_from(["dog", "cat", "car"]), st.just(""), st.just(0.9), boxes)
frames = st.lists(things, max_size=6)


def thing(label: str, sentence: str = "", box: tuple[int, int, int, int] = (0, 0, 10, 10)) -> Thing:
    return Thing(label, sentence, 0.9, box)


def slow_relation(one, other, relation: str) -> float:
    """As the protocol writes it: main axis right -> 1 when the overlap is below 0.1, else 0.1 / overlap."""
    x = abs((one[0] + one[2]) / 2 - (other[0] + other[2]) / 2)
    y = abs((one[1] + one[3]) / 2 - (other[1] + other[3]) / 2)
    right_axis = x > y if relation in ("on the left of", "on the right of") else y > x
    cells = {(i, j) for i in range(one[0], one[2]) for j in range(one[1], one[3])}
    others = {(i, j) for i in range(other[0], other[2]) for j in range(other[1], other[3])}
    shared = len(cells & others) / len(cells | others) if cells | others else 0.0
    return (1.0 if shared < 0.1 else 0.1 / shared) if right_axis else 0.0


@given(boxes, boxes, st.sampled_from(RELATIONS))
def test_relation_of_two_boxes(one, other, relation) -> None:
    assert related(one, other, relation, signed=False) == pytest.approx(slow_relation(one, other, relation))
    assert related(one, other, relation, False) == related(one, other, MIRROR[relation], False)  # the defect
    both = {r: related(one, other, r, signed=True) for r in (relation, MIRROR[relation])}
    assert sorted(both.values()) == [0.0, related(one, other, relation, signed=False)]  # one of the two, or none


def test_sides_are_those_that_words_mean() -> None:
    """y grows downwards."""
    left, right, above, below = (0, 50, 10, 60), (80, 50, 90, 60), (40, 0, 50, 10), (40, 90, 50, 99)
    assert related(left, right, "on the left of", True) == related(right, left, "on the right of", True) == 1.0
    assert related(above, below, "on the top of", True) == related(below, above, "on the bottom of", True) == 1.0
    assert related(left, right, "on the right of", True) == related(above, below, "on the bottom of", True) == 0.0
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert related((0, 0, 10, 10), (5, 0, 15, 10), "on the left of", True) == pytest.approx(0.3)
    assert overlap((3, 3, 3, 3), (3, 3, 3, 3)) == 0.0
    with pytest.raises(GokuError, match="behind"):
        related(left, right, "behind", True)


@given(frames, st.sampled_from(RELATIONS))
def test_best_pair_of_a_frame(frame, relation) -> None:
    official, corrected = [0.0], [0.0]
    for i, one in enumerate(frame):
        for j, other in enumerate(frame):
            if i != j and {one.label, other.label} <= {"dog", "cat"}:
                official.append(slow_relation(one.box, other.box, relation))
            if (one.label, other.label) == ("dog", "cat"):
                corrected.append(related(one.box, other.box, relation, signed=True))
    assert placed(frame, "dog", "cat", relation, official=True) == pytest.approx(max(official))
    assert placed(frame, "dog", "cat", relation, official=False) == pytest.approx(max(corrected))
    assert placed(frame, "dog", "cat", relation, False) <= placed(frame, "dog", "cat", relation, True) + 1e-12


@given(frames, st.sampled_from(RELATIONS))
def test_a_mirrored_frame_shows_the_mirrored_relation(frame, relation) -> None:
    """Flipped left to right and top to bottom: officially the score stays (trap 1), corrected it is the opposite's."""
    flipped = [
        Thing(t.label, "", t.score, (100 - t.box[2], 100 - t.box[3], 100 - t.box[0], 100 - t.box[1])) for t in frame
    ]
    for official, wanted in ((True, relation), (False, MIRROR[relation])):
        here, there = placed(frame, "dog", "cat", relation, official), placed(flipped, "dog", "cat", wanted, official)
        assert here == pytest.approx(there)


def test_two_of_one_class_are_a_pair_officially_only() -> None:
    dogs = [thing("dog", box=(0, 0, 10, 10)), thing("dog", box=(50, 0, 60, 10))]
    assert placed(dogs, "dog", "cat", "on the left of", official=True) == 1.0
    assert placed(dogs, "dog", "cat", "on the left of", official=False) == 0.0


def test_frames_with_the_classes() -> None:
    clip = [[thing("dog"), thing("cat")], [thing("dog"), thing("dog")], [], [thing("hot dog"), thing("cat")]]
    assert frames_with(clip, ("dog",)) == [True, True, False, False]
    assert frames_with(clip, ("dog", "cat")) == [True, False, False, False]
    assert two_labels("hair drier and hot dog") == ("hair drier", "hot dog")
    for wrong in ("dog", "a and b and c", " and cat"):
        with pytest.raises(GokuError, match="does not name two"):
            two_labels(wrong)


def test_whose_sentence_counts_for_the_colour() -> None:
    """Trap 4: officially every sentence counts as about the class of the frame's first detection."""
    frame = [thing("dog", "a brown dog"), thing("car", "a red car"), thing("cat", "a black cat")]
    assert colored(frame, "car", "red", official=False) is True
    assert colored(frame, "car", "red", official=True) is None  # the first is a dog
    assert colored(frame, "dog", "red", official=True) is True  # the car's sentence
    assert colored(frame, "dog", "red", official=False) is None  # brown is none of the twelve
    assert colored(frame, "cat", "red", official=False) is False
    assert colored([], "cat", "red", official=True) is None
    assert colored([thing("bed", "a covered bed")], "bed", "red", official=False) is True  # letters, not words


@given(st.lists(st.builds(thing, st.sampled_from(["dog", "car"]), st.sampled_from(["red car", "old", "a white dog"]))))
def test_own_classes_agree_with_the_first_one_where_all_are_alike(frame) -> None:
    alike = [Thing("car", t.sentence, t.score, t.box) for t in frame]
    assert colored(alike, "car", "red", True) == colored(alike, "car", "red", False)


def test_prompts_of_the_benchmark() -> None:
    if not SUITE.is_file():
        pytest.skip("VBench_full_info.json is not beside the checkout")
    entries = json.loads(SUITE.read_text(encoding="utf-8"))
    told = {
        name: [(e["prompt_en"], e["auxiliary_info"][name]) for e in entries if name in e["dimension"]]
        for name in ("multiple_objects", "color", "spatial_relationship")
    }
    assert [len(rows) for rows in told.values()] == [82, 85, 84]
    for prompt, row in told["color"]:
        assert row["color"] in COLORS
        assert prompt.split(maxsplit=1)[0] in ("a", "an") and prompt.split()[1:] == [
            row["color"],
            *label_of(prompt, row["color"]).split(),
        ]
    for prompt, row in told["multiple_objects"]:
        assert all(label in prompt for label in two_labels(row["object"]))
    for _, row in told["spatial_relationship"]:
        assert row["spatial_relationship"]["relationship"] in DIRECTIONS
