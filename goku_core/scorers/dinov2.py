"""DINOv2 (arXiv 2304.07193) features of frames: with them two frames of one shot are more alike than 0.85 (paper section 4.4)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from goku_core.scorers.devices import resolved
from goku_core.scorers.pictures import Pictures, unit
from goku_core.scorers.weights import locate, pretrained


class Dinov2Features:
    """folder: a DINOv2 model of transformers. The feature is the class token after the last norm.

    The paper says neither which size nor which feature; our choice is the token that the authors use for retrieval.
    """

    def __init__(self, folder: Path | str, device: str = "cpu", batch: int = 8) -> None:
        folder, device = locate("dinov2", Path(folder), "DINOv2"), resolved(device)
        self._model = _loaded(folder, device)
        self._pictures = Pictures(folder, device, batch)

    def embed(self, frames: list[np.ndarray]) -> np.ndarray:
        """uint8 (H, W, 3) RGB frames to float32 (n, d), rows of length 1."""
        if not frames:
            return np.empty((0, int(self._model.config.hidden_size)), np.float32)
        return unit(self._pictures.run(frames, lambda pixels: self._model(pixel_values=pixels).pooler_output))


@lru_cache(maxsize=1)
def _loaded(folder: Path, device: str) -> Any:
    """The network of this process: a new survey of a file must not read the weights again."""
    from transformers import Dinov2Model

    return pretrained(Dinov2Model, folder, device)
