"""Labels: the classes, their words, four frames against sentences; and what goes into the table."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from goku_core.curate import Request
from goku_core.curate.table import EMPTY
from goku_core.curate.taxonomy.step import label
from goku_core.curate.taxonomy.tree import OWN, load
from goku_core.curate.taxonomy.words import WordClassifier, singular
from goku_core.curate.taxonomy.zero_shot import ZeroShot
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.scenes.grammar import caption
from goku_core.scenes.scene import sample_scene

PAPER_PRIMARIES = {"human", "scenery", "animals", "food", "urban life"}
PAPER_CLASSES = {
    *("half-selfie", "full-selfie", "multi-human", "kid", "dinner", "wedding"),
    *("forest", "natural", "rivers", "snow", "grass", "sky"),
}


@pytest.fixture(scope="module")
def classifier() -> WordClassifier:
    return WordClassifier(load())


def test_nine_primaries_and_eighty_six_classes_of_which_the_papers_are_marked() -> None:
    classes = load()
    assert len(classes) == 86 and len({one.primary for one in classes}) == 9
    assert {one.name for one in classes if one.origin == "paper"} == PAPER_CLASSES
    assert {one.primary for one in classes} >= PAPER_PRIMARIES
    assert {one.name: one.primary for one in classes if one.name in ("kid", "sky")} == {
        "kid": "human",
        "sky": "scenery",
    }
    assert all(one.words or one.weak for one in classes)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A bride and a groom exchange rings while bridesmaids look on.", "wedding"),
        ("Snow-covered trees stand along a frozen lake in winter.", "snow"),
        ("A golden retriever runs across the grass after a ball.", "pets"),
        ("A man slices vegetables and stirs them in a wok.", "cooking"),
        ("A hot dog with mustard on a paper plate.", "snacks"),  # the longer phrase wins over the dog in it
        ("Two cyclists ride over a suspension bridge.", "bridges"),
        ("A little girl blows soap bubbles on a playground.", "kid"),
        ("A woman smiles.", "person"),
        (
            "A young woman with long brown hair smiles softly while she holds a cup of coffee; plants stand behind her.",
            "person",
        ),
        ("A crowd fills the square in front of the cathedral.", "crowd"),
        ("A woman rides a horse.", "livestock"),
        ("Waterfalls pour down a cliff; the waterfall is high.", "waterfall"),
        ("Cities of the north", "city"),
        ("a video game on a television", "game"),
    ],
)
def test_captions_get_the_class_their_words_speak_for(classifier, text: str, name: str) -> None:
    assert classifier.label(text).name == name


@pytest.mark.parametrize("text", ["", "blurry footage, 4k", "Something happens very slowly.", "一只狗"])
def test_what_says_nothing_gets_no_label(classifier, text: str) -> None:
    assert classifier.label(text) is None


def test_the_score_is_the_share_of_the_votes(classifier) -> None:
    assert classifier.label("a dog").score == 1
    found = classifier.label(
        "dog, cat, dog, mountain range"
    )  # each once: dog 1, cat 1 / (1 + 1/12); range 2 / (1 + 3/12)
    pets, mountain = 1 + 12 / 13, 2 * 12 / 15
    assert (found.name, found.primary) == ("pets", "animals")
    assert found.score == pytest.approx(pets / (pets + mountain))


def test_drawn_scenes_of_the_sample_are_graphics(classifier) -> None:
    draws = np.random.default_rng(0)
    tasks = ("single_object", "two_object", "counting", "colors", "position", "motion")
    found = [classifier.label(caption(draws, sample_scene(draws, task))) for task in tasks for _ in range(20)]
    assert Counter(one and one.name for one in found) == {"synthesis": 120}


@pytest.mark.parametrize(
    ("plural", "one"), [("dogs", "dog"), ("cities", "city"), ("boxes", "box"), ("grass", "grass"), ("bus", "bus")]
)
def test_singular(plural: str, one: str) -> None:
    assert singular(plural) == one and singular(one) == one


def test_an_own_taxonomy_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    for text, says in (
        ("primaries: {a: {classes: {b: {word: [x]}}}}", r"own\.yaml: primaries\.a\.classes\.b\.word"),
        ("primaries: {a: {classes: {b: {}}}, c: {classes: {b: {}}}}", "'b' names two classes"),
        ("primaries: {a: {classes: {a: {}}}}", "'a' names two classes"),
        ("primaries: [", "not valid YAML"),
    ):
        path.write_text(text)
        load.cache_clear()
        with pytest.raises(GokuError, match=says):
            load(path)
    path.write_text("primaries: {a: {classes: {b: {words: [red cars]}, c: {words: [Red car]}}}}")
    load.cache_clear()
    with pytest.raises(GokuError, match="stands for b and for c"):
        WordClassifier(load(path))
    with pytest.raises(GokuError, match="No such file"):
        load(tmp_path / "none.yaml")


class Axes:
    """An encoder whose space is known: sentence i is axis i, a frame points to the axis of its brightness."""

    def __init__(self, count: int) -> None:
        self.count = count

    def texts(self, sentences) -> np.ndarray:
        assert len(sentences) == self.count and all(text.startswith("a photo of ") for text in sentences)
        return np.eye(self.count, dtype=np.float32)

    def images(self, frames) -> np.ndarray:
        return np.eye(self.count, dtype=np.float32)[[int(frame[0, 0, 0]) for frame in frames]]


def test_zero_shot_takes_the_class_nearest_to_the_mean_of_the_frames() -> None:
    classes = load()
    model = ZeroShot(classes, Axes(len(classes)))

    def clip(*axes: int) -> list[np.ndarray]:
        return [np.full((4, 4, 3), axis, np.uint8) for axis in axes]

    found = model.label([clip(7, 7, 7, 2), [], clip(80), clip(5, 5, 6, 6)])
    assert found[0].name == classes[7].name and found[0].score > 0.99
    assert found[1] is None and found[2].name == classes[80].name
    assert found[3].name == classes[5].name and found[3].score == pytest.approx(0.5, abs=1e-6)


def rows(*captions: str) -> list[dict]:
    return [{**EMPTY, "clip_id": str(n), "kind": "image", "caption": text} for n, text in enumerate(captions)]


def test_the_step_fills_three_columns(tmp_path: Path) -> None:
    table, context = rows("a dog", "nothing known", "a dog and a tree"), Context(tmp_path, tmp_path, tmp_path)
    label(table, Request(taxonomy={"least_score": 0.6}), context, tmp_path)
    assert [(r["primary"], r["label"], r["label_score"]) for r in table] == [("animals", "pets", 1), *[(None,) * 3] * 2]
    label(table, Request(taxonomy={"classifier": "none"}), context, tmp_path)
    assert {r["label"] for r in table} == {None}
    (tmp_path / "mine.yaml").write_text("primaries: {all: {classes: {woof: {words: [dog]}}}}")
    label(table, Request(taxonomy={"file": "mine.yaml"}), context, tmp_path)
    assert [r["label"] for r in table] == ["woof", None, "woof"]
    with pytest.raises(GokuError, match="'hunam' is no class"):
        label(table, Request(balance={"weights": {"hunam": 2}}), context, tmp_path)
    assert OWN.is_file()
