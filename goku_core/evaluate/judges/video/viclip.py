"""Does the clip show what its prompt says, in the manner it says: cosine of ViCLIP's clip and sentence.

One rule for two dimensions of VBench (vbench/temporal_style.py, vbench/overall_consistency.py): eight middle frames, the
benchmark's own words whatever the model was given, cosine of both features. The score is the raw cosine, about 0.1 to 0.35
for a clip that fits; VBench stretches 0..0.364 to 0..1 afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import torch

from goku_core.evaluate.judges.frames import middle_frames
from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.video.pixels import CLIP, viclip_pixels
from goku_core.evaluate.judges.video.pretrained import ClipJudge
from goku_core.evaluate.networks.video import bpe, viclip
from goku_core.scenes.draw import draw
from goku_core.scenes.scene import Motion, Scene, Thing

KNOWN = (("circle", "red"), ("square", "blue"), ("triangle", "green"))
"""Of the check: three clips and three sentences. Whoever has learnt pictures with words puts each to its own."""


class ViClipJudge(ClipJudge):
    name = "viclip"
    dimensions = frozenset({"vbench/temporal_style", "vbench/overall_consistency"})
    sources = (viclip.SOURCE, bpe.SOURCE)

    def __init__(self, bench: Bench, size: viclip.Size = viclip.L14) -> None:
        super().__init__(bench)
        self.size = size

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": "cosine of clip and prompt, middle frames of equal intervals",
            "network": asdict(self.size),
            "pixels": ["short side, bicubic, not averaged, 8 bits, centre", CLIP],
        }

    def answers(self, seen: Seen, asked: Sequence[str]) -> list[Answer]:
        shown = middle_frames(len(seen.frames), self.size.frames)
        words = seen.sample.prompt.text
        cosine = float(self.cosines(seen.frames, [words])[0])
        evidence = {"frames": shown, "words": words}
        return [Answer(seen.sample.sample_id, dimension, cosine, evidence=evidence) for dimension in asked]

    def cosines(self, frames: np.ndarray, texts: list[str]) -> np.ndarray:
        """Of uint8 (T, H, W, 3) and each of n texts: float64 (n,)."""
        shown = frames[middle_frames(len(frames), self.size.frames)]
        pixels = viclip_pixels(shown, self.size.side).to(self.bench.device)
        tokens = self._words.tokens(texts, self.size.tokens).to(self.bench.device)
        with torch.inference_mode():
            clip, sentences = self._network.clips(pixels[None])[0], self._network.texts(tokens)
            return (sentences.double() @ clip.double()).cpu().numpy()

    def check(self) -> None:
        texts = [f"a {color} {shape}" for shape, color in KNOWN]
        for (shape, color), own in zip(KNOWN, texts, strict=True):
            cosines = self.cosines(_passing(shape, color), texts)
            told = ", ".join(f'"{text}" {cosine:.3f}' for text, cosine in zip(texts, cosines, strict=True))
            self._require(texts[int(np.argmax(cosines))] == own, f"a clip of {own} is like {told}")

    @cached_property
    def _network(self) -> viclip.ViClip:
        return viclip.load(self.bench.weights, self.bench.device, self.size)

    @cached_property
    def _words(self) -> bpe.Words:
        return bpe.load(self.bench.weights)


def _passing(shape: str, color: str) -> np.ndarray:
    """A thing that crosses a grey ground: uint8 (8, 256, 256, 3)."""
    scene = Scene("motion", (Thing(shape, color, 0.35, 0.5, 0.5),), motion=Motion("right", 0.04))
    return np.stack([draw(scene, 256, 256, time) for time in range(8)])


def make(bench: Bench) -> ViClipJudge:
    return ViClipJudge(bench)
