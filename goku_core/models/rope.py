"""3D rotary position embedding over (time, row, column) of the latent grid (paper section 2.2).

The head's channels are split 2/8 for time, 3/8 for rows and 3/8 for columns (16/24/24 of 64), every part even; pairs of
neighbouring channels are rotated, in float32. Positions are the plain integer grid (our choice: the paper is silent).
"""

from __future__ import annotations

import torch
from torch import Tensor


def axis_split(head_width: int) -> tuple[int, int, int]:
    """Channels for (time, row, column): even each, summing to the head width. 64 -> (16, 24, 24), 72 -> (20, 26, 26)."""
    space = 2 * (3 * head_width // 16)
    return head_width - 2 * space, space, space


def rope_table(coords: Tensor, head_width: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines for tokens at ``coords`` (N, 3) int: two float32 tensors (N, head_width / 2)."""
    angles = []
    for axis, channels in enumerate(axis_split(head_width)):
        exponent = torch.arange(0, channels, 2, dtype=torch.float32, device=coords.device) / channels
        angles.append(coords[:, axis, None].float() * base**-exponent)
    angle = torch.cat(angles, dim=-1)
    return angle.cos(), angle.sin()


class RopeTables:
    """`rope_table` looked up instead of computed: one float32 table per axis and device, whatever the model's own type.

    Not a buffer of the model, as `model.to(torch.bfloat16)` would round it.
    """

    positions = 4096  # per axis; 4096 rows are 65,536 px

    def __init__(self, head_width: int, base: float = 10000.0) -> None:
        self.head_width, self.base = head_width, base
        self._tables: dict[torch.device, list[tuple[Tensor, Tensor]]] = {}

    def __call__(self, coords: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3) int in [0, positions) -> cosines and sines, each (N, head_width / 2) float32."""
        axes = self._tables.get(coords.device)
        if axes is None:
            axes = self._tables[coords.device] = self._make(coords.device)
        cos, sin = zip(*((c[coords[:, i]], s[coords[:, i]]) for i, (c, s) in enumerate(axes)), strict=True)
        return torch.cat(cos, dim=-1), torch.cat(sin, dim=-1)

    def _make(self, device: torch.device) -> list[tuple[Tensor, Tensor]]:
        """Computed on the CPU, so that every device has the same bits."""
        position = torch.arange(self.positions)
        cos, sin = rope_table(position[:, None].expand(-1, 3), self.head_width, self.base)
        parts = [channels // 2 for channels in axis_split(self.head_width)]
        return [(c.to(device), s.to(device)) for c, s in zip(cos.split(parts, -1), sin.split(parts, -1), strict=True)]


def rotate(x: Tensor, table: tuple[Tensor, Tensor] | None) -> Tensor:
    """Rotates neighbouring channel pairs of ``x`` (N, heads, head_width); result in the type of ``x``. No table: `x` as it is."""
    if table is None:
        return x
    cos, sin = (t[:, None, :].to(torch.promote_types(x.dtype, torch.float32)) for t in table)
    if x.device.type == "cpu" and x.dtype == cos.dtype and not torch.compiler.is_compiling():
        # One pass over memory instead of eight; the compiler, which fuses the lines below, knows no complex numbers.
        pairs = torch.view_as_complex(x.contiguous().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)
    even, odd = x.to(cos.dtype).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)
