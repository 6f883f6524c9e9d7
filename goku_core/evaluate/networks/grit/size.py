"""Sizes of GRiT-B as its configuration has them (configs/Base.yaml, GRiT_B_DenseCap_ObjectDet.yaml, grit/config.py)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Of GRiT-B.

    grid        tokens along a side of the pictures that the body was pretrained with (224 px)
    trained     tokens along a side of the pictures that GRiT was trained with (1024 px)
    window      tokens along a side of a window; the blocks named in `everywhere` look at the whole picture
    channels    of the maps of the pyramid; hidden: of the box heads
    box, thing  cells along a side of what the box heads and the text decoder see of a box
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 16
    grid: int = 14
    trained: int = 64
    window: int = 14
    everywhere: tuple[int, ...] = (2, 5, 8, 11)
    channels: int = 256
    convolutions: int = 4
    hidden: int = 1024
    box: int = 7
    thing: int = 14
    text_width: int = 768
    text_depth: int = 6
    text_heads: int = 12
    text_inner: int = 3072
    vocabulary: int = 30522
    places: int = 1024


GRIT_B = Size()
