"""DPG-Bench's pictures: the four of a prompt in one file, two rows of two, all tiles of one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from goku_core.pipeline.errors import GokuError

TILES = (1, 4)


def compose(tiles: Sequence[np.ndarray], name: str) -> np.ndarray:
    """uint8 (2H, 2W, 3) of four tiles (H, W, 3), in reading order; one tile is itself. `name`: for errors.

    Raises GokuError for another number of tiles, or tiles of several sizes.
    """
    if len(tiles) not in TILES or len({tile.shape for tile in tiles}) > 1:
        sizes = ", ".join(f"{tile.shape[1]}x{tile.shape[0]}" for tile in tiles)
        raise GokuError(f"{name}: a grid holds one tile or four of one size, not {len(tiles)} ({sizes})")
    if len(tiles) == 1:
        return tiles[0]
    return np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])


def split(picture: np.ndarray, many: int, name: str) -> list[np.ndarray]:
    """The tiles of a picture (H, W, 3), in reading order. Raises GokuError where it has no such tiles."""
    if many not in TILES:
        raise GokuError(f"{name}: a grid holds one tile or four, not {many}. Plan with --per-prompt 4, or 1")
    if many == 1:
        return [picture]
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    if picture.shape[0] % 2 or picture.shape[1] % 2:
        raise GokuError(f"{name}: {picture.shape[1]}x{picture.shape[0]} px is no two rows of two equal tiles")
    return [picture[y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
