"""Captions say what is in the scene; prompts come in GenEval's format."""

from __future__ import annotations

import re

import numpy as np
import pytest

from goku_core.scenes.grammar import benchmark_prompts, caption, metadata, motion_prompts, other_phrasings, prompt
from goku_core.scenes.scene import Background, Motion, Scene, Thing, sample_scene
from goku_core.scenes.vocabulary import GENEVAL_TASKS, NUMBERS, TASKS, phrase

GROUND = Background("plain", (128, 128, 128), (128, 128, 128))
CIRCLE = Thing("circle", "red", 0.25, 0.5, 0.4)
SQUARE = Thing("square", "blue", 0.75, 0.5, 0.4)


def test_canonical_phrasings() -> None:
    assert phrase("star", "orange") == "an orange star"
    assert prompt(Scene("colors", (CIRCLE,), GROUND)) == "a red circle"
    assert prompt(Scene("colors", (CIRCLE,), GROUND), colored=False) == "a circle"
    assert prompt(Scene("two_object", (CIRCLE, SQUARE), GROUND), colored=False) == "a circle and a square"
    assert prompt(Scene("color_attr", (CIRCLE, SQUARE), GROUND)) == "a red circle and a blue square"
    placed = Scene("position", (CIRCLE, SQUARE), GROUND, relation="left of")
    assert prompt(placed) == "a red circle left of a blue square"
    assert prompt(Scene("counting", (CIRCLE,) * 3, GROUND)) == "three red circles"
    assert prompt(Scene("motion", (CIRCLE,), GROUND, Motion("right", 0.2))) == "a red circle moving right"
    assert prompt(Scene("zoom", (CIRCLE,), GROUND, Motion("in", 0.2))) == "a red circle, zoom in"


def test_relations_in_other_words_stay_true() -> None:
    placed = Scene("position", (SQUARE, CIRCLE), GROUND, relation="right of")
    assert other_phrasings(placed) == [
        "a red circle left of a blue square",
        "a red circle on the left and a blue square on the right",
        "a blue square to the right of a red circle",
    ]


def test_metadata_has_genevals_form() -> None:
    placed = Scene("position", (CIRCLE, SQUARE), GROUND, relation="left of")
    assert metadata(placed) == {
        "tag": "position",
        "prompt": "a photo of a red circle left of a blue square",
        "include": [
            {"class": "square", "count": 1, "color": "blue"},
            {"class": "circle", "count": 1, "color": "red", "position": ["left of", 0]},
        ],
    }
    counted = metadata(Scene("counting", (CIRCLE,) * 3, GROUND), colored=False)
    assert counted["include"] == [{"class": "circle", "count": 3}]
    assert counted["exclude"] == [{"class": "circle", "count": 4}]


@pytest.mark.parametrize(
    ("task", "size"),
    zip(GENEVAL_TASKS, (4, 12, 84, 24, 1440, 360), strict=True),
)
def test_every_prompt_once(task: str, size: int) -> None:
    prompts = benchmark_prompts(task)
    assert len(prompts) == len({entry["prompt"] for entry in prompts}) == size
    assert all(entry["tag"] == task for entry in prompts)


def test_scenes_prompts_are_benchmark_prompts() -> None:
    rng = np.random.default_rng(0)
    for task in GENEVAL_TASKS:
        known = benchmark_prompts(task)
        for _ in range(20):
            assert metadata(sample_scene(rng, task)) in known
    motions = motion_prompts()
    assert len(motions) == 144
    assert {"tag": "zoom", "motion": "in"}.items() <= motions[4].items()


def test_most_captions_are_canonical_and_name_the_colour() -> None:
    rng = np.random.default_rng(1)
    plain, colored, words = 0, 0, set()
    total = 2000
    for i in range(total):
        scene = sample_scene(rng, TASKS[i % len(TASKS)])
        text = caption(rng, scene)
        words.update(re.findall(r"[a-z]+", text))
        assert text == text.lower()
        plain += text.removeprefix("a photo of ") in (prompt(scene), prompt(scene, colored=False))
        colored += scene.things[0].color in text
    assert 0.65 < plain / total < 0.76
    assert 0.75 < colored / total < 0.90
    assert set(NUMBERS.values()) - {"one"} <= words
    assert len(words) < 80
