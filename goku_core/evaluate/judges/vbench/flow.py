"""How fast the fastest parts of a clip move, by RAFT: what dynamic degree and the static filter of VBench look at.

Pixels are those of the clip, at its own size. The sides are filled up to multiples of 8 by their outermost pixels, half on
each side (RAFT's `InputPadder`), and the filling counts among the fastest parts as it does in the official code.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.raft import CELL, LARGE, LEAST_SIDE, THINGS, Raft, load_raft
from goku_core.scorers.resizing import tensor

UPDATES = 20


@lru_cache(maxsize=1)
def shared_raft(file: Path, device: str) -> Raft:
    """One network for both judges of a process. Raises GokuError where the file holds the small one."""
    network = load_raft(file, device)
    if network.size != LARGE:
        raise GokuError(f"{file} holds the small RAFT; VBench uses the large one: {THINGS.get}")
    return network


def fastest(flow: Tensor, share: float) -> float:
    """Mean of the longest vectors of a flow (2, H, W), int(H*W*share) of them: px."""
    lengths = torch.linalg.vector_norm(flow.double(), dim=0).flatten()
    return float(lengths.topk(int(len(lengths) * share)).values.mean())


def flow_between(network: Raft, first: np.ndarray, second: np.ndarray, device: str) -> Tensor:
    """From one uint8 (H, W, 3) frame to another, px: float32 (2, H', W'), sides filled up to multiples of 8."""
    pixels = tensor(np.stack([first, second])).to(device) / 127.5 - 1.0
    filled = F.pad(pixels, _fill(*pixels.shape[-2:], CELL), mode="replicate")
    # Below 128 px the coarsest of RAFT's levels has one cell and the official code divides by zero; here such frames stand in
    # a larger one, which is cut off again.
    room = _fill_to(*filled.shape[-2:], LEAST_SIDE)
    with torch.inference_mode():
        large = F.pad(filled, room, mode="replicate")
        flow = network(large[:1], large[1:], updates=UPDATES)[0]
    height, width = filled.shape[-2:]
    return flow[:, room[2] : room[2] + height, room[0] : room[0] + width]


def _fill(height: int, width: int, multiple: int) -> tuple[int, int, int, int]:
    """Left, right, top, bottom; the odd pixel goes to the right and below."""
    across, down = -width % multiple, -height % multiple
    return across // 2, across - across // 2, down // 2, down - down // 2


def _fill_to(height: int, width: int, least: int) -> tuple[int, int, int, int]:
    across, down = max(0, least - width), max(0, least - height)
    return across // 2, across - across // 2, down // 2, down - down // 2
