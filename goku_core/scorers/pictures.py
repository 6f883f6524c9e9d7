"""Frames into a network of transformers: the folder's own preprocessing, and passes of one fixed size.

A product of matrices may round differently for another number of rows. So a last pass that is not full is filled up
with black: then a frame's numbers do not depend on which clips were scored together, nor on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    import torch


class Pictures:
    """Prepares and passes frames. batch: frames in one pass."""

    def __init__(self, folder: Path, device: str, batch: int) -> None:
        from transformers import AutoImageProcessor

        try:
            # torchvision is no dependency; its processors also resize differently.
            self._processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
        except (OSError, ValueError, KeyError) as error:
            raise GokuError(f"{folder}: its preprocessor_config.json cannot be used: {error}") from error
        self._device, self._batch = device, batch

    def prepare(self, frames: list[np.ndarray]) -> torch.Tensor:
        """uint8 (H, W, 3) RGB frames of any sizes to float32 (n, 3, h, w)."""
        return self._processor(frames, input_data_format="channels_last", return_tensors="pt")["pixel_values"]

    def run(self, frames: list[np.ndarray], network: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        """Rows of ``network`` for the frames, float32 (n, ...), n at least 1."""
        return in_passes(frames, self._batch, self._device, self.prepare, network)


def in_passes(
    frames: Sequence[np.ndarray] | np.ndarray,
    batch: int,
    device: str,
    prepare: Callable[[Any], torch.Tensor],
    network: Callable[[torch.Tensor], torch.Tensor],
) -> np.ndarray:
    """Rows of ``network`` for at least one frame, float32 (n, ...). prepare: some frames to float32 (n, 3, h, w)."""
    import torch

    rows: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(frames), batch):
            pixels = prepare(frames[start : start + batch])
            count = len(pixels)
            if count < batch:
                pixels = torch.cat([pixels, pixels.new_zeros(batch - count, *pixels.shape[1:])])
            rows.append(network(pixels.to(device))[:count].float().cpu().numpy())
    return np.concatenate(rows)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32 (n, d)."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
