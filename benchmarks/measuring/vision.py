"""A judge as dear as a real one, without its weights: ViT-B/16 over every frame, as VBench's subject consistency has it.

What a forward costs does not depend on what the weights say; its answers mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.pixels import consistency

DIMENSION = "features"
BASE = (768, 12, 12)  # width, layers, heads
SMALL = (32, 2, 2)
SIDE, PATCH = 224, 16


def base(bench: Bench) -> VisionJudge:
    return VisionJudge(BASE, bench)


def small(bench: Bench) -> VisionJudge:
    return VisionJudge(SMALL, bench)


class VisionJudge:
    name = "vit"
    dimensions = frozenset({f"i2v/{DIMENSION}"})

    def __init__(self, shape: tuple[int, int, int], bench: Bench) -> None:
        self._shape, self._bench = shape, bench
        self._network: Vision | None = None
        self.fingerprint = f"vit-{shape[0]}-random"

    def missing(self) -> str:
        return ""

    def check(self) -> None:
        """Loads the network: a run's first sample then costs what the others cost."""
        self._features(np.zeros((1, 32, 32, 3), np.uint8))

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        return [
            Answer(one.sample.sample_id, DIMENSION, consistency(self._features(one.frames)), len(one.frames))
            for one in seen
        ]

    @torch.inference_mode()
    def _features(self, frames: np.ndarray) -> np.ndarray:
        if self._network is None:
            torch.manual_seed(0)
            self._network = Vision(*self._shape).eval().to(self._bench.device)
        found = []
        for start in range(0, len(frames), self._bench.batch):
            small = [
                cv2.resize(f, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
                for f in frames[start : start + self._bench.batch]
            ]
            pixels = torch.from_numpy(np.stack(small)).to(self._bench.device).permute(0, 3, 1, 2).float() / 127.5 - 1
            found.append(self._network(pixels).cpu())
        rows = torch.cat(found)
        return torch.nn.functional.normalize(rows, dim=1).numpy()


class Vision(torch.nn.Module):
    """pixels (n, 3, 224, 224) -> class token (n, width), with the products of a ViT of that size."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(3, width, PATCH, PATCH)
        self.token = torch.nn.Parameter(torch.zeros(1, 1, width))
        self.positions = torch.nn.Parameter(0.02 * torch.randn(1, 1 + (SIDE // PATCH) ** 2, width))
        layer = torch.nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = torch.nn.TransformerEncoder(layer, layers, torch.nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1)
        return self.blocks(tokens + self.positions)[:, 0]
