"""The judges that ask in words, on small random networks: rules, evidence, what is missing, independence of the company."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_scorers import pictures, tiny_clip
from tiny_words import BLIP, TAG2TEXT, TAGS, weights_of_words

from goku_core.evaluate.benchmarks.dpg import questions_of
from goku_core.evaluate.judges.judge import JUDGES, Bench, Seen, judge_named
from goku_core.evaluate.judges.words import blip_vqa, mplug_vqa, scene
from goku_core.evaluate.judges.words.asking import COLORS, circles, confused, square
from goku_core.evaluate.judges.words.noun_chunks import NounChunks
from goku_core.evaluate.manifest import Prompt, Sample
from goku_core.evaluate.networks.words.blip import load_blip
from goku_core.evaluate.networks.words.tag2text import Captioner
from goku_core.pipeline.errors import GokuError

NAMES = [name for name, module in JUDGES.items() if ".judges.words." in module]
BOWL = "a red bench and a blue bowl"
QUESTIONS = [
    {"id": 2, "question": "Is there a Bench?", "dependency": [1], "tuple": "entity - whole (x)"},
    {"id": 1, "question": "Is the circle red?", "dependency": [], "tuple": "entity - whole (x)"},
    {"id": 3, "question": "Is there a bowl, a red bowl?", "dependency": [2, 9], "tuple": "entity - whole (x)"},
]
ALLEY = {"auxiliary_info": {"scene": {"scene": {"scene": "blue sea"}}}}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = weights_of_words(tmp_path_factory.mktemp("weights"))
    tiny_clip(folder / "clip-vit-base-patch32")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """BLIP and Tag2Text state no sizes in their files; mPLUG does."""
    monkeypatch.setattr(blip_vqa, "load_blip", partial(load_blip, size=BLIP))
    monkeypatch.setattr(scene.Captioner, "load", partial(Captioner.load, size=TAG2TEXT))


def seen(
    benchmark: str, dimensions: tuple[str, ...], number: int = 0, text: str = BOWL, frames: int = 1, **known
) -> Seen:
    prompt = Prompt(f"{benchmark}-{number:05d}", text, "", dimensions, known)
    media = "video" if frames > 1 else "image"
    sample = Sample(f"{prompt.prompt_id}-0", benchmark, media, prompt, text, 1)
    return Seen(sample, np.stack(pictures(frames, number, 40, 64)), 8.0 if frames > 1 else 0.0, "")


def of(name: str, number: int = 0) -> Seen:
    return {
        "blip_vqa": lambda: seen("compbench", ("color",), number),
        "non_spatial": lambda: seen("compbench", ("non_spatial",), number, "a sea"),
        "mplug_vqa": lambda: seen("dpg", ("dpg",), number, questions=QUESTIONS),
        "scene": lambda: seen("vbench", ("scene", "background_consistency"), number, frames=5, **ALLEY),
    }[name]()


def test_every_judge_says_what_it_needs_before_it_loads_anything(tmp_path: Path, weights: Path) -> None:
    assert NAMES == ["scene", "blip_vqa", "non_spatial", "mplug_vqa"]
    for name in NAMES:
        there, not_there = (judge_named(name, Bench(weights=folder)) for folder in (weights, tmp_path))
        assert there.name == name and there.missing() == ""
        told = not_there.missing()
        assert str(tmp_path) in told and "get it: " in told and "\n" not in told
        with pytest.raises(GokuError, match="weights are missing"):
            not_there.judge([of(name)])
        assert there.fingerprint.startswith(f"{name}-") and there.fingerprint != not_there_fingerprint(name, weights)


def not_there_fingerprint(name: str, weights: Path) -> str:
    """Another batch rounds differently, and so is another fingerprint."""
    return judge_named(name, Bench(weights=weights, batch=3)).fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_the_same_in_any_company(name: str, weights: Path) -> None:
    judge = judge_named(name, Bench(weights=weights, batch=3))
    one, other = of(name), of(name, 1)
    (answer,) = judge.judge([one])
    assert judge.judge([other, seen("vbench", ("color",)), one])[1] == answer  # bit for bit
    assert answer.evidence_json() and f"{one.sample.benchmark}/{answer.dimension}" in judge.dimensions
    assert judge.judge([seen("geneval", ("geneval",))]) == []


def test_blip_multiplies_what_it_is_asked(weights: Path) -> None:
    judge = judge_named("blip_vqa", Bench(weights=weights))
    (answer,) = judge.judge([of("blip_vqa")])
    (bench, first), (bowl, second) = answer.evidence["answers"]
    assert (bench, bowl) == ("a red bench", "a blue bowl")  # "top" names a place
    assert answer.score == round(first * second, 4) and first != second
    network = load_blip(weights / blip_vqa.SOURCE.place, size=BLIP)
    pixels = torch.from_numpy(square(of("blip_vqa").frames[0], 32).copy()).permute(2, 0, 1)[None] / 255
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    pixels = (pixels - mean) / torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    words = torch.tensor([[30523, 3000, 3006, 3009, 1029, 102]])  # [ENC] a blue bowl ? [SEP]
    words[0, 2] = 3005
    logits = network.answer(network.visual_encoder(pixels), words, words > 0)[0].softmax(0)
    assert second == pytest.approx(float(logits[2748] / (logits[2748] + logits[2053])), abs=2e-4)
    (whole,) = judge.judge([seen("compbench", ("shape",), text="nothing")])
    assert whole.score == 1.0 and whole.evidence == {"answers": []}


def test_questions_are_cleaned_as_the_official_code_does() -> None:
    assert blip_vqa.asked("A (Very) #Green! Bench.") == "a very green bench?"
    assert len(blip_vqa.asked("word " * 60).split(" ")) == 50


def test_chunks_come_from_a_file_or_a_parser_and_from_nothing_else(tmp_path: Path, weights: Path) -> None:
    chunks = NounChunks(weights)
    assert chunks.of(BOWL) == ["a red bench", "a blue bowl"] and chunks.origin.startswith("file ")
    with pytest.raises(GokuError, match="has no chunks for the prompt 'a sea'"):
        chunks.of("a sea")
    (tmp_path / "compbench").mkdir()
    place = tmp_path / "compbench" / "noun_chunks.json"
    place.write_text(json.dumps({"long": [f"thing {n}" for n in range(12)]}), encoding="utf-8")
    assert len(NounChunks(tmp_path).of("long")) == 8
    place.write_text('{"long": "a thing"}', encoding="utf-8")
    with pytest.raises(GokuError, match=r'needed is \{"prompt"'):
        NounChunks(tmp_path).of("long")


def test_without_file_and_parser_it_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("goku_core.evaluate.judges.words.noun_chunks._version", lambda package: "")
    chunks = NounChunks(tmp_path)
    assert "noun_chunks.json" in chunks.missing() and "en_core_web_sm" in chunks.missing()
    for asked in (lambda: chunks.origin, lambda: chunks.of(BOWL)):
        with pytest.raises(GokuError, match="en_core_web_sm"):
            asked()


def test_the_parser_is_asked_where_there_is_one(tmp_path: Path) -> None:
    pytest.importorskip("en_core_web_sm")
    assert NounChunks(tmp_path).of("a green bench and a blue bowl") == ["a green bench", "a blue bowl"]


def test_questions_of_a_tile(weights: Path) -> None:
    judge = judge_named("mplug_vqa", Bench(weights=weights, batch=2))
    (answer,) = judge.judge([of("mplug_vqa")])
    assert list(answer.evidence["answers"]) == ["2", "1", "3"] and answer.count == 3
    said = {int(number): text for number, text in answer.evidence["answers"].items()}
    assert answer.score == mplug_vqa.tile_score(said, questions_of({"questions": QUESTIONS}))
    asked = []
    judge._asked = lambda picture, questions: asked.extend(questions) or ["yes", "no", "yes"]
    (answer,) = judge.judge([of("mplug_vqa")])
    assert asked == [question["question"] for question in QUESTIONS]
    assert answer.evidence == {"answers": {"2": "yes", "1": "no", "3": "yes"}} and answer.score == 0.0
    with pytest.raises(GokuError, match="the plan has no questions"):
        judge.judge([seen("dpg", ("dpg",))])


@pytest.mark.parametrize(
    ("said", "score"),
    [
        (("yes", "yes", "yes"), 1.0),
        (("yes", "no", "yes"), 0.0),  # 1 is no, so 2 is 0 and then 3
        (("no", "yes", "yes"), 1 / 3),  # 2 is no, so 3 is 0
        (("yes", "yes", "yes."), 2 / 3),  # exactly "yes"
    ],
)
def test_the_parent_rule(said: tuple[str, ...], score: float) -> None:
    questions = questions_of({"questions": QUESTIONS})
    assert mplug_vqa.tile_score(dict(zip((2, 1, 3), said, strict=True)), questions) == pytest.approx(score)


def test_a_scene_is_told_in_sixteen_frames(weights: Path) -> None:
    judge = judge_named("scene", Bench(weights=weights, batch=5))
    (answer,) = judge.judge([of("scene")])
    assert answer.count == len(answer.evidence["captions"]) == len(answer.evidence["tags"]) == 16
    other = judge_named("scene", Bench(weights=weights, batch=5, mode="official"))
    (official,) = other.judge([of("scene")])
    captions = answer.evidence["captions"]
    assert len(set(captions[:5])) > 1 and other.fingerprint != judge.fingerprint
    assert official.evidence["captions"] == [captions[n // 3] for n in range(16)]
    right = ["blue" in sentence and "sea" in sentence for sentence in answer.evidence["captions"]]
    assert answer.evidence["frames"] == right and answer.score == sum(right) / 16
    assert answer.evidence["captions"][4:] == [answer.evidence["captions"][4]] * 12  # five frames, the last repeated
    assert all(tag in TAGS for tags in answer.evidence["tags"] for tag in tags)
    with pytest.raises(GokuError, match=r"lacks auxiliary_info\.scene"):
        judge.judge([seen("vbench", ("scene",))])


def test_labels_are_found_as_parts_of_words() -> None:
    assert scene.names("amusement park", "a man parking at an amusement") and not scene.names("sea", "a lake")


def test_frames_are_scaled_by_bicubic_that_averages() -> None:
    fine = np.zeros((96, 96, 3), np.uint8)
    fine[:, ::2] = 255  # columns of one pixel become even grey
    small = scene.scaled([fine], 24)
    assert small.shape == (1, 24, 24, 3) and abs(small[0, 3:-3, 3:-3].astype(int) - 127).max() < 4
    flat = np.full((50, 70, 3), (200, 30, 90), np.uint8)
    assert abs(scene.scaled([flat], 32).astype(int) - [200, 30, 90]).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_sees_nothing_is_noticed(name: str, weights: Path) -> None:
    """Random networks confuse the four colours (a chance of 1 in 256 that one does not)."""
    with pytest.raises(GokuError, match="fails its check on built-in pictures"):
        judge_named(name, Bench(weights=weights, batch=4)).check()


def test_a_check_passes_where_colours_are_told_apart(weights: Path) -> None:
    assert len(circles(64)) == 4 and circles(64)[0][32, 32].argmax() == 0
    assert confused(np.eye(4)) == [] and confused(np.eye(4)[::-1]) == list(COLORS)

    def of_color(look):
        """The colour whose hue fills the middle of the picture that a look was made of."""
        return COLORS[int(look)]

    mplug = judge_named("mplug_vqa", Bench(weights=weights))
    mplug._looks = lambda given: range(len(given))
    mplug._asked = lambda look, questions: ["yes" if of_color(look) in q else "no" for q in questions]
    mplug.check()
    mplug._asked = lambda look, questions: ["yes"] * len(questions)
    with pytest.raises(GokuError, match="yes to 12 of 12 wrong colours"):
        mplug.check()
    blip = judge_named("blip_vqa", Bench(weights=weights))
    blip._looks = lambda given: range(len(given))
    blip._asked = lambda look, chunks: [0.9 if of_color(look) in chunk else 0.2 for chunk in chunks]
    blip.check()


def test_a_damaged_configuration_is_named(tmp_path: Path, weights: Path) -> None:
    place = tmp_path / mplug_vqa.SOURCE.place
    place.mkdir()
    assert "config.yaml" in judge_named("mplug_vqa", Bench(weights=tmp_path)).missing()
    for name in (*mplug_vqa.FILES, mplug_vqa.TENSORS[-1]):
        (place / name).write_bytes((weights / mplug_vqa.SOURCE.place / name).read_bytes())
    (place / "config_bert.json").write_text("{}", encoding="utf-8")
    with pytest.raises(GokuError, match="configuration cannot be used"):
        judge_named("mplug_vqa", Bench(weights=tmp_path)).judge([of("mplug_vqa")])
