"""VBench's four judges of objects on a small random GRiT: right frames, right pixels, answers by the rule from what is shown."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_grit import TINY, write_grit
from tiny_scorers import pictures

from goku_core.evaluate.judges.judge import JUDGES, Bench, Seen, judge_named
from goku_core.evaluate.judges.objects import looking
from goku_core.evaluate.judges.objects.color import Color
from goku_core.evaluate.judges.objects.looking import ObjectJudge
from goku_core.evaluate.judges.objects.multiple_objects import MultipleObjects
from goku_core.evaluate.judges.objects.object_class import ObjectClass
from goku_core.evaluate.judges.objects.spatial_relationship import SpatialRelationship
from goku_core.evaluate.manifest import Drawing, Prompt, Sample
from goku_core.evaluate.networks.grit import pixels
from goku_core.evaluate.networks.grit.vocabulary import Vocabulary
from goku_core.pipeline.errors import GokuError

KINDS: dict[str, type[ObjectJudge]] = {
    kind.dimension: kind for kind in (ObjectClass, MultipleObjects, Color, SpatialRelationship)
}
TOLD = {
    "object_class": {"object": "w7"},
    "multiple_objects": {"object": "w7 and w8"},
    "color": {"color": "red"},
    "spatial_relationship": {
        "spatial_relationship": {"object_a": "w7", "object_b": "w8", "relationship": "on the left of"}
    },
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_grit(folder)
    return folder


def seen(name: str, frames: np.ndarray, told=None, text: str = "a red w7") -> Seen:
    prompt = Prompt("vbench-00003", text, "", (name,), {"auxiliary_info": {name: told or TOLD[name]}})
    return Seen(Sample("vbench-00003-0", "vbench", "video", prompt, text, 1, Drawing()), frames, 8.0, "")


def clip(frames: int, height: int = 64, width: int = 160) -> np.ndarray:
    return np.stack(pictures(frames, 3, height, width))


def judge(name: str, weights: Path, mode: str = "official") -> ObjectJudge:
    return KINDS[name](Bench(weights=weights, mode=mode), TINY)


def test_they_are_found_by_name_and_say_what_they_need(tmp_path) -> None:
    assert set(KINDS) <= set(JUDGES)
    for name in KINDS:
        found = judge_named(name, Bench(weights=tmp_path))
        assert found.name == name and found.dimensions == {f"vbench/{name}"} and isinstance(found, KINDS[name])
        told = found.missing()
        assert "grit_b_densecap_objectdet.pth" in told and "vocab.txt" in told and told.count("hf download") == 2
        with pytest.raises(GokuError, match="weights are missing"):
            found.judge([seen(name, clip(2))])


def test_modes_and_dimensions_have_fingerprints_of_their_own(weights) -> None:
    stamps = {judge(name, weights, mode).fingerprint for name in KINDS for mode in ("official", "corrected")}
    assert len(stamps) == 8
    assert judge("color", weights).fingerprint in stamps


def labels_in(evidence) -> list[set[str]]:
    return [{thing["label"] for thing in frame} for frame in evidence["detections"]]


def test_shares_are_those_of_the_detections_shown(weights) -> None:
    frames = clip(40)
    (answer,) = judge("object_class", weights).judge([seen("object_class", frames)])
    shown = labels_in(answer.evidence)
    intervals = np.linspace(0, 40, 17).astype(int)
    assert answer.evidence["looked_at"] == [(a + b - 1) // 2 for a, b in pairwise(intervals)]
    assert answer.count == len(shown) == 16 and answer.verdict is None
    frames = clip(2)  # fewer to look at from here on
    (answer,) = judge("object_class", weights).judge([seen("object_class", frames)])
    shown = labels_in(answer.evidence)
    often = sorted({label for frame in shown for label in frame}, key=lambda w: (-sum(w in f for f in shown), w))
    assert len(often) >= 2
    for label in (often[0], often[-1], "w129"):
        (said,) = judge("object_class", weights).judge([seen("object_class", frames, {"object": label})])
        share = sum(label in frame for frame in shown) / 16
        assert said.score == share and (said.reason == "") == (share == 1)
    both = f"{often[0]} and {often[1]}"
    (said,) = judge("multiple_objects", weights).judge([seen("multiple_objects", frames, {"object": both})])
    assert said.score == sum({often[0], often[1]} <= frame for frame in shown) / 16
    for frame in answer.evidence["detections"]:
        for thing in frame:
            left, top, right, bottom = thing["box"]
            assert 0 <= left <= right <= 160 and 0 <= top <= bottom <= 64 and 0 < thing["score"] <= 1
    assert judge("object_class", weights).judge([seen("color", frames)]) == []  # not asked


def test_spatial_relationship_of_the_detections_shown(weights) -> None:
    frames = clip(4)
    (first,) = judge("spatial_relationship", weights).judge([seen("spatial_relationship", frames)])
    assert first.score == 0 and first.count == 16 and "w7 on the left of w8" in first.reason
    common = sorted(set.intersection(*labels_in(first.evidence)))[:1] or sorted(labels_in(first.evidence)[0])[:1]
    told = {"spatial_relationship": {"object_a": common[0], "object_b": "w8", "relationship": "on the top of"}}
    (said,) = judge("spatial_relationship", weights).judge([seen("spatial_relationship", frames, told)])
    expected = []
    for frame in said.evidence["detections"]:  # whole pixels at native size: what the rule saw
        own, best = [t["box"] for t in frame if t["label"] == common[0]], 0.0
        for i, a in enumerate(own):
            for b in own[i + 1 :]:
                x, y = abs(a[0] + a[2] - b[0] - b[2]), abs(a[1] + a[3] - b[1] - b[3])
                shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
                union = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - shared
                if y > x:
                    best = max(best, 1.0 if not union or shared / union < 0.1 else 0.1 * union / shared)
        expected.append(best)
    assert said.evidence["frames"] == pytest.approx(expected, abs=1e-6)
    assert said.score == pytest.approx(np.mean(expected)) and max(expected) > 0


def test_a_clip_of_no_colour_is_left_out(weights) -> None:
    (answer,) = judge("color", weights).judge([seen("color", clip(2))])
    assert (answer.score, answer.count) == (0.0, 0) and "left out" in answer.reason
    assert all(thing["sentence"] for frame in answer.evidence["detections"] for thing in frame)
    words = {thing["sentence"] for frame in answer.evidence["detections"] for thing in frame}
    labels = {thing["label"] for frame in answer.evidence["detections"] for thing in frame}
    assert words and not words <= labels  # another first word, another text


def test_colours_are_read_from_sentences(weights, tmp_path) -> None:
    """Words of the vocabulary renamed to colours: the network's own sentences then name some."""
    write_grit(tmp_path)
    plain = judge("color", weights).judge([seen("color", clip(3))])[0].evidence["detections"]
    label = plain[0][0]["label"]
    spoken = plain[0][0]["sentence"].split()
    other = next(word for word in spoken if word not in label.split())
    file = tmp_path / "bert-base-uncased/vocab.txt"
    file.write_text("\n".join("blue" if w == other else w for w in file.read_text().splitlines()) + "\n")
    answers = {
        color: judge("color", tmp_path).judge([seen("color", clip(3), {"color": color}, f"a {color} {label}")])[0]
        for color in ("blue", "red")
    }
    expected = [
        any("blue" in thing["sentence"] for thing in frame) and frame[0]["label"] == label
        for frame in answers["blue"].evidence["detections"]
    ]
    assert answers["blue"].count == answers["red"].count == sum(expected) > 0
    assert answers["blue"].score == 1.0 and answers["red"].score == 0.0


def test_a_short_clip_is_looked_at_once_a_frame_and_alone_as_in_company(weights, monkeypatch) -> None:
    looked: list[int] = []
    things = looking.Looker.things

    def counted(self, picture, sentences):
        looked.append(1)
        return things(self, picture, sentences)

    monkeypatch.setattr(looking.Looker, "things", counted)
    one = seen("object_class", clip(3))
    (answer,) = judge("object_class", weights).judge([one])
    assert len(looked) == 3 and answer.count == 16 and answer.evidence["looked_at"] == [0, 1] + [2] * 14
    assert judge("object_class", weights).judge([seen("object_class", clip(2, 160, 64)), one])[1] == answer


def test_corrected_sees_a_larger_picture_and_answers_in_the_samples_pixels(weights) -> None:
    frames = clip(1, 48, 72)
    assert judge("object_class", weights, "corrected").shown(frames).shape == (1, 800, 1200, 3)
    assert judge("object_class", weights, "official").shown(frames) is frames
    (answer,) = judge("object_class", weights, "corrected").judge([seen("object_class", frames)])
    boxes = np.array([thing["box"] for thing in answer.evidence["detections"][0]])
    assert len(boxes) and boxes.min() >= 0 and boxes[:, 2].max() <= 72 and boxes[:, 3].max() <= 48
    assert boxes[:, 2].max() > 24  # not shrunk twice


@pytest.mark.parametrize(
    ("name", "told", "message"),
    [
        ("object_class", {"thing": "dog"}, "lacks 'object'"),
        ("multiple_objects", {"object": "dog"}, "does not name two"),
        ("color", {"color": ""}, "lacks 'color'"),
        ("spatial_relationship", {"spatial_relationship": {"object_a": "dog"}}, "lacks 'object_b'"),
    ],
)
def test_what_to_look_for_comes_from_the_metadata(weights, name, told, message) -> None:
    with pytest.raises(GokuError, match=message):
        judge(name, weights).judge([seen(name, clip(1), told)])
    bare = seen(name, clip(1))
    bare.sample.prompt.metadata["auxiliary_info"].clear()
    with pytest.raises(GokuError, match=f"lacks auxiliary_info.{name}"):
        judge(name, weights).judge([bare])


def test_random_eyes_do_not_pass_the_check(weights) -> None:
    with pytest.raises(GokuError, match="fails its check on built-in pictures"):
        judge("color", weights).check()


def test_the_check_wants_squares_and_their_colours(weights, monkeypatch) -> None:
    """Eyes that see right pass; those that see colours wrong, or nothing, do not."""
    places = torch.tensor([place for _, place in looking.SQUARES]).float()

    class Eyes:
        def __init__(self, boxes: torch.Tensor, told: tuple[str, ...]) -> None:
            self.boxes, self.told = boxes, told

        def faint(self, picture: np.ndarray) -> torch.Tensor:
            for color, (left, top, right, bottom) in looking.SQUARES:  # what is drawn is what is asked for
                assert picture[top:bottom, left:right].mean((0, 1)).argmax() == ("red", "green", "blue").index(color)
            return self.boxes

        def sentences(self, picture: np.ndarray, boxes) -> tuple[str, ...]:
            return self.told

    right = ("a red square", "the blue sign", "a wall")
    for boxes, told, passes in (
        (places + 4, right, True),
        (places, ("a blue square", "a red square", "a green one"), False),
        (places[:0], right, False),
        (places * 0.3, right, False),
    ):
        eyes = Eyes(boxes, told)
        monkeypatch.setattr(looking, "shared_looker", lambda *_, eyes=eyes: eyes)
        if passes:
            judge("object_class", weights).check()
        else:
            with pytest.raises(GokuError, match="fails its check"):
                judge("object_class", weights).check()


def test_pixels_of_both_modes() -> None:
    frames = np.stack(pictures(2, 1, 810, 1500))
    as_tensor = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2).float(), (720, 1333), mode="bilinear"
    )
    by_torch = pixels.official(frames, by_opencv=False)
    assert by_torch.dtype == np.uint8 and by_torch.shape == (2, 720, 1333, 3)
    assert np.abs(by_torch - as_tensor.permute(0, 2, 3, 1).numpy()).max() <= 0.5
    by_opencv = pixels.official(frames, by_opencv=True)
    assert np.array_equal(by_opencv[1], cv2.resize(frames[1], (1333, 720)))
    assert np.abs(by_opencv.astype(int) - by_torch).max() <= 1  # the same rule in whole numbers
    for height, width, size in ((768, 1000, (768, 1000)), (769, 769, (720, 720)), (1080, 1920, (720, 1280))):
        assert pixels.official(np.zeros((1, height, width, 3), np.uint8), False).shape[1:3] == size
    # detectron2's ResizeShortestEdge(800, 1333)
    for height, width, size in (
        (480, 640, (800, 1067)),
        (480, 854, (749, 1333)),
        (1280, 720, (1333, 750)),
        (1600, 1600, (800, 800)),
    ):
        assert pixels.corrected(np.zeros((1, height, width, 3), np.uint8)).shape[1:3] == size


def test_numbers_become_text_as_transformers_writes_it(tmp_path) -> None:
    from tokenizers.decoders import WordPiece
    from transformers import PreTrainedTokenizerBase

    words = ["[PAD]", *(f"x{n}" for n in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += ["a", "red", "##dish", "cat", "'", "s", ",", "hat", ".", "##s", "n't", "'s"]
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(words) + "\n", encoding="utf-8")
    vocabulary = Vocabulary(file, len(words))
    number = {word: place for place, word in enumerate(words)}
    for said in ("a red ##dish cat , hat ##s .", "cat 's hat", "a cat ' s hat", "cat n't", "a"):
        tokens = said.split()
        numbers = [number[token] for token in tokens]
        expected = PreTrainedTokenizerBase.clean_up_tokenization(None, WordPiece(cleanup=False).decode(tokens))
        assert vocabulary.text([*numbers, 102, 102]) == expected
    assert vocabulary.text([number["red"], number["##dish"], number["cat"], 102, 0]) == "reddish cat"
    assert vocabulary.text([102, 102]) == ""
    with pytest.raises(GokuError, match="has 116 words and the network 30522"):
        Vocabulary(file, 30522)
