"""GenEval's judge: Mask2Former finds the things, CLIP ViT-L/14 names their colours, `verdict` decides.

Source: djghosh13/geneval evaluation/evaluate_images.py at af4902f. Detector: OpenMMLab's weights (networks/mask2former.py; Meta's
own Swin-S weights are others and give other verdicts, so they are not taken). Colours: open_clip's ViT-L-14 "openai" is
OpenAI's network with QuickGELU, the folder `openai/clip-vit-large-patch14` of transformers. Ours is float32
throughout; the official code computes the colours in half precision on a GPU.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from goku_core.evaluate.judges.detector import Detection
from goku_core.evaluate.judges.geneval.coco import LABELS
from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.verdict import judge_image
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source, lacks, obtain

if TYPE_CHECKING:
    from transformers import Mask2FormerConfig

    from goku_core.evaluate.judges.geneval.instances import Instance
    from goku_core.scorers.clip import Clip

REVISION = 1
"""Raise when answers change: it is part of the fingerprint in every record."""
CLIP = Source(
    name="clip-vit-large-patch14",
    place="clip-vit-large-patch14",
    get='hf download openai/clip-vit-large-patch14 --include "*.json" --include "*.txt" --include "*.safetensors" '
    '--include "README.md" --local-dir weights/clip-vit-large-patch14',
    licence="MIT (the code's; the model card states none)",
)
LEAST, LEAST_COUNTING = 0.3, 0.9
"""Score a detection must exceed; counting asks for more because the detector finds things twice."""
AT_MOST = 16
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TEMPLATES = ("a photo of a {color} {label}", "a photo of a {color}-colored {label}", "a photo of a {color} object")
GROUND = (0x99, 0x99, 0x99)

Found = tuple[Detection, np.ndarray]


def make(bench: Bench) -> Mask2FormerJudge:
    return Mask2FormerJudge(bench.weights, bench.device)


class Mask2FormerJudge:
    """weights: the folder of weights. shape: of the detector in it [default: the published one].

    Pictures go through the detector one by one: they have sizes of their own.
    """

    name = "mask2former"
    dimensions = frozenset({"geneval/geneval"})

    def __init__(self, weights: Path, device: str = "cpu", shape: Mask2FormerConfig | None = None) -> None:
        self._weights, self._device, self._shape = weights, device, shape
        self._texts: dict[str, np.ndarray] = {}

    @property
    def sources(self) -> tuple[Source, ...]:
        """The weights it works with."""
        from goku_core.evaluate.networks.mask2former import SOURCE

        return SOURCE, CLIP

    @property
    def fingerprint(self) -> str:
        from goku_core.scorers.weights import digest

        digests = [digest(obtain(source, self._weights)) for source in self.sources]
        settings = (REVISION, LEAST, LEAST_COUNTING, AT_MOST, COLORS, TEMPLATES, GROUND, digests, "float32")
        return f"mask2former-{hashlib.sha256(repr(settings).encode()).hexdigest()[:12]}"

    def missing(self) -> str:
        return "; ".join(filter(None, (lacks(source, self._weights) for source in self.sources)))

    def suits(self, sample: Sample) -> bool:
        """Whether all that the clauses name is a class of COCO, and every colour one of the ten."""
        metadata = sample.prompt.metadata
        clauses = [*metadata.get("include", ()), *metadata.get("exclude", ())]
        return all(c["class"] in LABELS and c.get("color", COLORS[0]) in COLORS for c in clauses)

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        """One verdict per picture, by GenEval's line of metadata. Evidence: label, score, box, area, colour of every thing."""
        return [self._verdict(one) for one in seen]

    def check(self) -> None:
        """Two renders with known answers: a disc must be covered by a mask, and the colours of discs must be named.

        Which class of COCO a disc is, nobody knows; that a sound detector outlines it, we rely on. Raises GokuError.
        """
        for color, paint in (("red", (220, 30, 30)), ("blue", (30, 60, 220))):
            picture, disc = rendered(paint)
            best = max((overlap(thing.mask, disc) for thing in self.things(picture)), default=0.0)
            if best < 0.5:
                raise GokuError(
                    f"the judge {self.name!r} does not outline a {color} disc on plain ground (best overlap {best:.2f}): its "
                    "weights are damaged or belong to another network. No score would mean anything. See docs/weights.md"
                )
            if (named := self.color(picture, disc, "sports ball")) != color:
                raise GokuError(
                    f"the judge {self.name!r} calls a {color} disc {named}: its CLIP is broken. See docs/weights.md"
                )

    def things(self, picture: np.ndarray) -> list[Instance]:
        """Everything the detector proposes in a uint8 RGB picture (H, W, 3), best first, at most 100."""
        import torch

        from goku_core.evaluate.judges.geneval.instances import full_size, instances, prepared

        pixels, inner = prepared(picture)
        with torch.inference_mode():
            said = self._detector(pixel_values=pixels.to(self._device))
            masks = full_size(said.masks_queries_logits[0], tuple(pixels.shape[2:]), inner, picture.shape[:2])
            return instances(said.class_queries_logits[0], masks)

    def color(self, picture: np.ndarray, mask: np.ndarray, label: str) -> str:
        """The name of COLORS that CLIP gives to what the mask leaves of the picture; all else is grey, the box is cut out."""
        from goku_core.evaluate.judges.geneval.instances import box_of

        left, top, right, bottom = map(int, box_of(mask))
        alone = np.where(mask[..., None], picture, np.uint8(GROUND))[top:bottom, left:right]
        return COLORS[int((self._names(label) @ self._clip.images([alone])[0]).argmax())]

    def _verdict(self, seen: Seen) -> Answer:
        metadata = seen.sample.prompt.metadata
        picture = seen.frames[0]
        found = kept(self.things(picture), str(metadata.get("tag", seen.sample.task)))
        colored = {label: self._colored(picture, things, asked(metadata, label)) for label, things in found.items()}
        verdict = judge_image(colored, metadata)
        evidence = {"detections": [thing.evidence() for things in colored.values() for thing in things]}
        score = float(verdict.correct)
        return Answer(seen.sample.sample_id, "geneval", score, 1, verdict.correct, verdict.reason, evidence)

    def _colored(self, picture: np.ndarray, things: Sequence[Found], many: int) -> list[Detection]:
        """The first `many` with their colour: those whose colour a clause will look at."""
        return [
            replace(thing, color=self.color(picture, mask, thing.label)) if number < many else thing
            for number, (thing, mask) in enumerate(things)
        ]

    def _names(self, label: str) -> np.ndarray:
        """(10, d): for each colour the mean of its three sentences' embeddings, of length 1."""
        if label not in self._texts:
            said = [template.format(color=color, label=label) for color in COLORS for template in TEMPLATES]
            rows = self._clip.texts(said).reshape(len(COLORS), len(TEMPLATES), -1).mean(axis=1)
            self._texts[label] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return self._texts[label]

    @cached_property
    def _detector(self) -> Any:
        from goku_core.evaluate.networks.mask2former import load

        return load(self._weights, self._device, self._shape)

    @cached_property
    def _clip(self) -> Clip:
        from goku_core.scorers.clip import Clip

        folder = obtain(CLIP, self._weights)
        require_quick_gelu(folder)
        return Clip(folder, self._device, batch=1)


def kept(things: Sequence[Instance], task: str) -> dict[str, list[Found]]:
    """By label, best first, above the threshold of the task, at most 16 of a label. Nothing is suppressed for overlap."""
    least = LEAST_COUNTING if task == "counting" else LEAST
    found: dict[str, list[Found]] = {}
    for thing in sorted(things, key=lambda one: -one.score):
        group = found.setdefault(LABELS[thing.label], [])
        if thing.score > least and len(group) < AT_MOST:
            seen = Detection(LABELS[thing.label], thing.score, thing.box, float(thing.mask.sum()))
            group.append((seen, thing.mask))
    return {label: group for label, group in found.items() if group}


def asked(metadata: Mapping[str, Any], label: str) -> int:
    """How many things of a label the clauses with a colour look at."""
    clauses = (clause for clause in metadata.get("include", ()) if clause["class"] == label and clause.get("color"))
    return max((clause["count"] for clause in clauses), default=0)


def require_quick_gelu(folder: Path) -> None:
    """Raises GokuError for a CLIP with another activation: OpenAI's weights were trained with QuickGELU."""
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for tower in ("text_config", "vision_config"):
        if (found := stated.get(tower, {}).get("hidden_act", "quick_gelu")) != "quick_gelu":
            raise GokuError(
                f"{folder}: {tower} states {found}; GenEval's colours need OpenAI's CLIP (quick_gelu). {CLIP.get}"
            )


def rendered(paint: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A disc with soft shading on light ground, uint8 (512, 512, 3), and its mask."""
    down, across = np.mgrid[:512, :512]
    disc = (down - 256) ** 2 + (across - 256) ** 2 < 140**2
    shade = 1.1 - 0.4 * np.hypot(down - 190, across - 200) / 300
    ball = np.clip(np.array(paint) * shade[..., None], 0, 255)
    picture = np.where(disc[..., None], ball, np.array((225, 222, 214)))
    return cv2.GaussianBlur(picture.astype(np.uint8), (0, 0), 1.0), disc


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two bool masks; 0 where both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0
