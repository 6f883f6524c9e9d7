"""Judges that compare the frames of a clip with one another, or with the picture it was to continue. No weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from goku_core.evaluate.judges.judge import Answer, Bench, Seen, asked_of
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.appearance import Appearance

SAME = 99.0
"""dB of equal pictures, whose ratio is infinite."""


def flicker(bench: Bench) -> FlickerJudge:
    return FlickerJudge()


def embedded(bench: Bench) -> EmbeddedJudge:
    return EmbeddedJudge()


def first_frame(bench: Bench) -> FirstFrameJudge:
    return FirstFrameJudge()


class FlickerJudge:
    """VBench's temporal flickering: (255 - mean absolute difference of neighbouring frames) / 255, at native size.

    Source: vbench/temporal_flickering.py at 45e79ec. Frames are RGB here and BGR there, which a mean over the channels does
    not tell apart. The official loop leaves a video without a readable frame out of the mean without a word, and one of a
    single frame makes the whole mean NaN; here both have no record, and are named. VBench runs it on clips chosen to be
    static; in the line's own suites motion of the prompt counts against it too, equally for every model.
    """

    name = "flicker"
    dimensions = frozenset({"vbench/temporal_flickering", "motion/flicker", "i2v/flicker"})
    fingerprint = "flicker-1"

    def missing(self) -> str:
        return ""

    def check(self) -> None:
        black = np.zeros((4, 6, 3), np.uint8)
        _require(self.name, temporal_flicker(np.stack([black, black + 51, black + 51])), 0.9)

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        return [
            Answer(one.sample.sample_id, dimension, round(temporal_flicker(one.frames), 9))
            for one in seen
            for dimension in sorted(asked_of(self, one.sample))
        ]


class EmbeddedJudge:
    """Does the thing stay what it is? VBench's rule of subject consistency over embedded features of the whole frame.

    For each frame after the first the mean of its cosines with the frame before and with the first, each floored at 0; mean
    over the frames. The features are `scorers.appearance` (colours and edges), not DINO's: its scores compare with one
    another only, which is why the dimension is the suite's own and the fingerprint says so. A clip in which nothing moves
    has 1, so read it beside the direction.
    """

    name = "embedded"
    dimensions = frozenset({"motion/subject_consistency", "i2v/subject_consistency"})
    fingerprint = "embedded-appearance-1"

    def __init__(self) -> None:
        self._features = Appearance()

    def missing(self) -> str:
        return ""

    def check(self) -> None:
        dark, light = np.full((48, 80, 3), 40, np.uint8), np.full((48, 80, 3), 128, np.uint8)
        light[12:36, 20:60] = (216, 36, 36)
        _require(self.name, consistency(self._features.embed([light] * 3)), 1.0)
        if consistency(self._features.embed([light, dark, dark])) > 0.9:
            raise GokuError("the judge embedded takes two pictures that have nothing in common for alike")

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        return [self._one(one) for one in seen]

    def _one(self, seen: Seen) -> Answer:
        score = consistency(self._features.embed(list(seen.frames)))
        return Answer(seen.sample.sample_id, "subject_consistency", round(score, 6), len(seen.frames) - 1)


class FirstFrameJudge:
    """Is the given picture kept? PSNR in dB of the first frame against it; equal pictures have 99."""

    name = "first_frame"
    dimensions = frozenset({"i2v/first_frame_psnr"})
    fingerprint = "first_frame-1"

    def missing(self) -> str:
        return ""

    def check(self) -> None:
        black = np.zeros((4, 4, 3), np.uint8)
        _require(self.name, psnr(black, black + 51), 20 * float(np.log10(5)))

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        return [self._one(one) for one in seen]

    def _one(self, seen: Seen) -> Answer:
        if seen.given is None:
            raise GokuError(f"the picture that the clip was to continue is missing: given/{seen.sample.sample_id}.png")
        if seen.given.shape != seen.frames[0].shape:
            raise GokuError(
                f"the clip is {_size(seen.frames[0])}, the picture that it was to continue {_size(seen.given)}"
            )
        return Answer(seen.sample.sample_id, "first_frame_psnr", round(psnr(seen.frames[0], seen.given), 6))


def temporal_flicker(clip: np.ndarray) -> float:
    """0..1 of uint8 frames (T, H, W, 3). Raises GokuError for a single frame, which has no neighbour."""
    if len(clip) < 2:
        raise GokuError("a single frame has no neighbour: flicker needs two")
    steps = [float(cv2.absdiff(a, b).mean()) for a, b in pairwise(clip)]
    return (255.0 - float(np.mean(steps))) / 255.0


def consistency(features: np.ndarray) -> float:
    """0..1 of rows of unit length (T, d), one by frame. Raises GokuError for a single frame."""
    if len(features) < 2:
        raise GokuError("a single frame has nothing to be consistent with: two are needed")
    rows = features.astype(np.float64)
    before = np.maximum(0.0, np.sum(rows[1:] * rows[:-1], axis=1))
    first = np.maximum(0.0, rows[1:] @ rows[0])
    return min(1.0, float(np.mean((before + first) / 2)))


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal to noise ratio in dB of uint8 pictures of one shape; equal pictures give `SAME`."""
    error = float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return SAME if error == 0 else min(SAME, float(10 * np.log10(255.0**2 / error)))


def _require(name: str, found: float, known: float) -> None:
    if abs(found - known) > 1e-6:
        raise GokuError(f"the judge {name} gives {found:g} to a clip that is known to have {known:g}")


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
