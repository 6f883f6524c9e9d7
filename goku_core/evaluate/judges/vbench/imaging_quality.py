"""Noise, blur, exposure: MUSIQ as trained on SPAQ, of every frame (vbench/imaging_quality.py, mode "longer")."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.vbench import specimens
from goku_core.evaluate.judges.vbench.protocol import VBenchJudge
from goku_core.evaluate.networks.musiq import GOOGLE, SOURCE, Musiq, load_musiq
from goku_core.scorers.resizing import scaled, tensor

LONGEST = 512  # px
BLUR = 6.0  # px, of the check


def musiq_pixels(frames: np.ndarray) -> torch.Tensor:
    """uint8 (T, H, W, 3) to float32 (T, 3, h, w) in 0..1; a long side above 512 px comes down to it, bilinear, not averaged."""
    height, width = frames.shape[1:3]
    pixels = tensor(frames)
    if max(height, width) > LONGEST:
        scale = float(LONGEST) / max(height, width)
        pixels = scaled(pixels, (int(scale * height), int(scale * width)), "bilinear")
    return pixels / 255.0


class ImagingQuality(VBenchJudge):
    dimension = "imaging_quality"
    sources = ((SOURCE, GOOGLE),)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": "opinion score by 100, mean of frames",
            "network": "MUSIQ, long sides 224, 384 and own",
            "pixels": f"long side at most {LONGEST}, bilinear, no antialias",
        }

    def answer(self, seen: Seen) -> Answer:
        return self._mean_answer(seen, self.scores(seen.frames))

    def scores(self, frames: np.ndarray) -> np.ndarray:
        """Of each of uint8 (T, H, W, 3) frames: float64 (T,), about 0 to 1.

        One frame in a pass, as the official code has it: a frame is some 260 patches, which fill the device.
        """
        with torch.inference_mode():
            scores = [
                float(self._network(musiq_pixels(frames[number : number + 1]).to(self.bench.device)))
                for number in range(len(frames))
            ]
        return np.array(scores) / 100

    def check(self) -> None:
        sharp = specimens.shapes()
        scores = self.scores(np.stack([sharp, specimens.blurred(sharp, BLUR)]))
        told = f"four shapes score {scores[0]:.3f} sharp and {scores[1]:.3f} blurred by {BLUR:g} px"
        self._require(bool((scores > -0.2).all() and (scores < 1.2).all()), told)
        self._require(scores[0] > scores[1], told)

    @cached_property
    def _network(self) -> Musiq:
        return load_musiq(self.weights(), self.bench.device)


def make(bench: Bench) -> ImagingQuality:
    return ImagingQuality(bench)
