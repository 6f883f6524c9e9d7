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
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def base(bench: Bench) -> VisionJudge:
    return VisionJudge(BASE, bench)


def small(bench: Bench) -> VisionJudge:
    return VisionJudge(SMALL, bench)


class VisionJudge:
    name = "vit"
    dimensions = frozenset({f"i2v/{DIMENSION}"})

    def __init__(self, shape: dict[str, int], bench: Bench) -> None:
        self._shape, self._bench = shape, bench
        self._network: torch.nn.Module | None = None
        self.fingerprint = f"vit-{shape['hidden_size']}-random"

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
            from transformers import ViTConfig, ViTModel

            torch.manual_seed(0)
            config = ViTConfig(**self._shape, image_size=224, patch_size=16)
            self._network = ViTModel(config, add_pooling_layer=False).eval().to(self._bench.device)
        found = []
        for start in range(0, len(frames), self._bench.batch):
            small = [
                cv2.resize(f, (224, 224), interpolation=cv2.INTER_CUBIC)
                for f in frames[start : start + self._bench.batch]
            ]
            pixels = torch.from_numpy(np.stack(small)).to(self._bench.device).permute(0, 3, 1, 2).float() / 127.5 - 1
            found.append(self._network(pixels).last_hidden_state[:, 0].cpu())
        rows = torch.cat(found)
        return torch.nn.functional.normalize(rows, dim=1).numpy()
