"""Motion score by RAFT, in the unit of the DIS score: px at 256 px frame height per 0.25 s, mean over frame and clip.

The paper names RAFT and neither unit, resolution nor spacing (section 4.5). Here pairs are neighbouring frames of those
that the decode left behind, 0.5 s apart, scaled to the DIS score's height; a pair's flow is divided down to 0.25 s. Motion
that turns round within 0.5 s is therefore seen smaller than by DIS; the calibration report shows by how much.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from goku_core.curate.scores.motion import HEIGHT, SPACING
from goku_core.media.decode import resize
from goku_core.scorers.raft import CELL, LEAST_SIDE, load_raft

UNIT = f"mean optical flow (RAFT), px at {HEIGHT} px frame height per {SPACING:g} s"


class FlowMeter:
    """file: torchvision's raft_large or raft_small. One pass per clip, so that its bits depend on nothing else."""

    def __init__(self, file: Path, updates: int = 20, pairs: int = 8, device: str = "cpu") -> None:
        self._network = load_raft(file, device)
        self._updates, self._pairs, self._device = updates, pairs, device

    def score(self, frames: list[tuple[int, np.ndarray]], time_base: Fraction) -> float | None:
        """frames: timestamps in ticks and uint8 (H, W, 3) RGB, in order. None where there are fewer than two."""
        neighbours = list(pairwise(frames))
        if not neighbours:
            return None
        chosen = [neighbours[index] for index in _spread(len(neighbours), self._pairs)]
        seconds = [float((later[0] - earlier[0]) * time_base) for earlier, later in chosen]
        flow = self.flow([earlier[1] for earlier, _ in chosen], [later[1] for _, later in chosen])
        speeds = np.hypot(flow[:, 0], flow[:, 1]).mean(axis=(1, 2), dtype=np.float64)
        return float(np.mean([speed * SPACING / gap for speed, gap in zip(speeds, seconds, strict=True)]))

    def flow(self, earlier: list[np.ndarray], later: list[np.ndarray]) -> np.ndarray:
        """Flow of each pair at 256 px height, x and y in px: float32 (n, 2, 256, W)."""
        first, second = self._pixels(earlier), self._pixels(later)
        height, width = first.shape[-2:]
        # Filled up at the bottom and on the right with the last row and column; cut off again below.
        fill = (0, max(LEAST_SIDE - width, -width % CELL), 0, -height % CELL)
        with torch.inference_mode():
            padded = (F.pad(pixels, fill, mode="replicate") for pixels in (first, second))
            return self._network(*padded, updates=self._updates)[..., :height, :width].float().cpu().numpy()

    def _pixels(self, frames: list[np.ndarray]) -> torch.Tensor:
        """float32 (n, 3, 256, W), -1 to 1."""
        rows, columns = frames[0].shape[:2]
        width = max(1, round(columns * HEIGHT / rows))
        scaled = np.stack([resize(frame, HEIGHT, width) for frame in frames])
        return torch.from_numpy(scaled).to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` places, evenly spread, each in the middle of its share."""
    if count <= most:
        return list(range(count))
    return [(2 * index + 1) * count // (2 * most) for index in range(most)]
