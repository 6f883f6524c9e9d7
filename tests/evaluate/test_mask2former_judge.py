"""GenEval's judge: from logits to things, thresholds, colours and the verdict, against second formulations."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from openmmlab_checkpoint import PUBLISHED, SMALL, drawn, official, small_config
from PIL import Image
from tiny_scorers import tiny_clip

from goku_core.evaluate.judges.geneval import mask2former as judging
from goku_core.evaluate.judges.geneval.coco import LABELS
from goku_core.evaluate.judges.geneval.instances import Instance, full_size, instances, prepared, resized
from goku_core.evaluate.judges.judge import Bench, Seen, judge_named
from goku_core.evaluate.manifest import Prompt, Sample
from goku_core.evaluate.networks import mask2former as port
from goku_core.pipeline.errors import GokuError


def seen(metadata: dict, picture: np.ndarray) -> Seen:
    prompt = Prompt("geneval-00000", "a picture", metadata["tag"], ("geneval",), metadata)
    return Seen(Sample("geneval-00000-0", "geneval", "image", prompt, "a picture", 1), picture[None], 0.0, "ab")


def test_labels_are_cocos_80_in_order():
    assert len(LABELS) == len(set(LABELS)) == 80
    places = {
        0: "person",
        11: "stop sign",
        32: "sports ball",
        56: "chair",
        64: "computer mouse",
        66: "computer keyboard",
    }
    assert {number: LABELS[number] for number in places} == places
    assert LABELS[79] == "toothbrush"


@pytest.mark.parametrize(
    ("picture", "expected"),
    [((512, 512), (800, 800)), ((1024, 768), (1067, 800)), ((256, 1024), (333, 1333)), ((480, 640), (800, 1067))],
)
def test_pictures_are_brought_within_800_by_1333(picture, expected):
    assert resized(*picture) == expected


def test_preparation_normalises_and_pads_below_and_to_the_right():
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    pixels, inner = prepared(picture)
    assert inner == (800, 1200)
    assert pixels.shape == (1, 3, 800, 1216)
    blue = cv2.resize(picture[..., 2], (1200, 800), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    np.testing.assert_allclose(pixels[0, 2, :, :1200], (blue - 103.53) / 57.375, atol=1e-5)
    assert not pixels[0, :, :, 1200:].any()


def test_masks_come_back_to_the_picture_without_the_padding():
    # A ramp stays a ramp under bilinear resizing away from the edges, however often.
    ramp = torch.arange(50.0)[None, None, :].expand(1, 40, 50)
    back = full_size(ramp, padded=(160, 200), inner=(160, 180), picture=(80, 90))
    assert back.shape == (1, 80, 90)
    middle = (np.arange(90) + 0.5) * 180 / 90 / 4 - 0.5  # place in the network's map of each column
    np.testing.assert_allclose(back[0, 40, 3:-3], middle[3:-3], atol=1e-4)


def by_hand(
    classes: np.ndarray, masks: np.ndarray, most: int
) -> list[tuple[int, float, tuple[float, ...], np.ndarray]]:
    """The rule in loops over numbers: pairs of query and class, best class probability first; then the masks."""
    odds = np.exp(classes) / np.exp(classes).sum(axis=1, keepdims=True)
    pairs = sorted(((odds[q, c], q, c) for q in range(len(odds)) for c in range(odds.shape[1] - 1)), reverse=True)[
        :most
    ]
    found = []
    for odd, query, label in pairs:
        places = [(y, x) for y, x in np.ndindex(masks.shape[1:]) if masks[query, y, x] > 0]
        sure = sum(1 / (1 + np.exp(-masks[query, y, x])) for y, x in places) / (len(places) + 1e-6)
        ys, xs = [y for y, _ in places], [x for _, x in places]
        box = (min(xs), min(ys), max(xs) + 1, max(ys) + 1) if places else (0, 0, 0, 0)
        found.append((label, odd * sure, tuple(map(float, box)), masks[query] > 0))
    return sorted(found, key=lambda thing: -thing[1])


def test_instances_equal_the_rule_in_loops():
    rng = np.random.default_rng(1)
    classes = rng.normal(size=(7, 6)) * 2
    masks = rng.normal(size=(7, 9, 11)) - 0.5
    masks[3] = -1.0  # an empty mask has no box and no score
    found = instances(torch.from_numpy(classes), torch.from_numpy(masks), most=12)
    expected = by_hand(classes, masks, 12)
    assert [(thing.label, thing.box) for thing in found] == [(label, box) for label, _, box, _ in expected]
    np.testing.assert_allclose([thing.score for thing in found], [score for _, score, *_ in expected], rtol=1e-9)
    for thing, (*_, mask) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(thing.mask, mask)


def thing(label: str, score: float, left: int, top: int = 20, side: int = 20) -> Instance:
    mask = np.zeros((100, 200), bool)
    mask[top : top + side, left : left + side] = True
    return Instance(LABELS.index(label), score, (left, top, left + side, top + side), mask)


def test_counting_asks_for_more_and_sixteen_are_enough():
    things = [thing("apple", 0.95, 10), thing("apple", 0.31, 50), thing("apple", 0.3, 90), thing("cat", 0.9, 120)]
    assert {label: len(group) for label, group in judging.kept(things, "two_object").items()} == {"apple": 2, "cat": 1}
    assert {label: len(group) for label, group in judging.kept(things, "counting").items()} == {"apple": 1}
    crowd = [thing("dog", 0.4 + n / 100, n) for n in range(20)]
    scores = [one.score for one, _ in judging.kept(crowd, "single_object")["dog"]]
    assert scores == sorted((0.4 + n / 100 for n in range(4, 20)), reverse=True)


class Planted(judging.Mask2FormerJudge):
    """The judge with a detector that proposes known things: what comes behind it is looked at."""

    def __init__(self, weights, proposed):
        super().__init__(weights)
        self.proposed = proposed

    def things(self, picture):
        return self.proposed


def test_verdict_by_position_and_by_count(tmp_path):
    picture = np.zeros((100, 200, 3), np.uint8)
    judge = Planted(tmp_path, [thing("dog", 0.8, 10), thing("cat", 0.7, 150), thing("cat", 0.2, 80)])
    left = {
        "tag": "position",
        "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
    }
    right = {
        "tag": "position",
        "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}],
    }
    answers = [judge.judge([seen(metadata, picture)])[0] for metadata in (left, right)]
    assert [answer.verdict for answer in answers] == [True, False]
    assert "left of" in answers[1].reason
    boxes = {d["label"]: d["box"] for d in json.loads(answers[0].evidence_json())["detections"]}
    assert boxes == {"dog": [10, 20, 30, 40], "cat": [150, 20, 170, 40]}  # the third is below the threshold
    counting = {"tag": "counting", "include": [{"class": "cat", "count": 1}], "exclude": [{"class": "cat", "count": 2}]}
    assert judge.judge([seen(counting, picture)])[0].verdict is False  # 0.7 is not sure enough to be counted


def test_colour_is_read_off_the_thing_on_grey_as_the_official_code_cuts_it(tmp_path):
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    folder = tiny_clip(tmp_path / judging.CLIP.place)
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (100, 200, 3), dtype=np.uint8)
    proposed = [thing("car", 0.9, 30), thing("car", 0.8, 90, side=35), thing("car", 0.7, 160)]
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), CLIPImageProcessor.from_pretrained(folder)

    def official_color(one: Instance) -> str:
        image = Image.fromarray(picture)
        blank = Image.new("RGB", image.size, color="#999")
        crop = Image.composite(image, blank, Image.fromarray(one.mask)).crop(one.box)
        with torch.inference_mode():
            seen_as = model.get_image_features(**processor(crop, return_tensors="pt")).pooler_output[0]
            weights = []
            for name in judging.COLORS:
                said = [f"a photo of a {name} car", f"a photo of a {name}-colored car", f"a photo of a {name} object"]
                tokens = tokenizer(said, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
                texts = model.get_text_features(**tokens).pooler_output
                mean = (texts / texts.norm(dim=1, keepdim=True)).mean(dim=0)
                weights.append(float(seen_as @ (mean / mean.norm())))
        return judging.COLORS[int(np.argmax(weights))]

    expected = [official_color(one) for one in proposed]
    judge = Planted(tmp_path, proposed)
    metadata = {"tag": "colors", "include": [{"class": "car", "count": 2, "color": expected[0]}]}
    answer = judge.judge([seen(metadata, picture)])[0]
    named = [d["color"] for d in json.loads(answer.evidence_json())["detections"]]
    assert named == [*expected[:2], None]  # the third is looked at by no clause
    assert answer.verdict is (expected[1] == expected[0])


def test_another_activation_is_refused(tmp_path):
    folder = tiny_clip(tmp_path / judging.CLIP.place)
    stated = json.loads((folder / "config.json").read_text())
    stated["vision_config"]["hidden_act"] = "gelu"
    (folder / "config.json").write_text(json.dumps(stated))
    with pytest.raises(GokuError, match="quick_gelu"):
        Planted(tmp_path, []).color(np.zeros((100, 200, 3), np.uint8), thing("car", 1, 5).mask, "car")


def test_what_is_missing_is_said_before_anything_is_loaded(tmp_path):
    judge = judge_named("mask2former", Bench(weights=tmp_path))
    assert judge.dimensions == {"geneval/geneval"}
    assert "download.openmmlab.com" in judge.missing()
    assert "openai/clip-vit-large-patch14" in judge.missing()
    picture = np.zeros((4, 4, 3), np.uint8)
    for name, color, suits in (("dog", "red", True), ("circle", "red", False), ("dog", "mauve", False)):
        metadata = {"tag": "colors", "include": [{"class": name, "count": 1, "color": color}]}
        assert judge.suits(seen(metadata, picture).sample) is suits


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The judge over a checkpoint in OpenMMLab's layout, small and random."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save({"state_dict": drawn(official(**SMALL)), "meta": {"epoch": 50}}, folder / port.SOURCE.place)
    tiny_clip(folder / judging.CLIP.place)
    return judging.Mask2FormerJudge(folder, shape=small_config())


def test_a_picture_goes_through_detector_and_verdict(small):
    picture, _ = judging.rendered((200, 30, 30))
    metadata = {"tag": "colors", "include": [{"class": "car", "count": 1, "color": "red"}]}
    things = small.things(picture[:200, :300])
    assert 0 < len(things) <= 100
    assert all(one.mask.shape == (200, 300) and 0 <= one.label < 80 for one in things)
    assert [one.score for one in things] == sorted((one.score for one in things), reverse=True)
    first, again = (small.judge([seen(metadata, picture)])[0] for _ in range(2))
    assert first == again
    assert small.missing() == ""
    assert small.fingerprint.startswith("mask2former-")


def test_random_weights_do_not_pass_the_check(small):
    with pytest.raises(GokuError, match=r"does not outline|calls a"):
        small.check()


@pytest.mark.slow
def test_the_published_size_runs_on_a_cpu(tmp_path):
    torch.save({"state_dict": drawn(official(**PUBLISHED)), "meta": {}}, tmp_path / port.SOURCE.place)
    tiny_clip(tmp_path / judging.CLIP.place)
    judge = judge_named("mask2former", Bench(weights=tmp_path))
    picture, _ = judging.rendered((200, 30, 30))
    metadata = {"tag": "single_object", "include": [{"class": "car", "count": 1}]}
    answer = judge.judge([seen(metadata, picture)])[0]
    assert answer.dimension == "geneval"
    assert answer.score in (0.0, 1.0)
