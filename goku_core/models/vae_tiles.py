"""Overlapping tiles of the latent grid, and how their results are blended.

A tile's cut edge is zero padding where the picture goes on, so the cells near it are wrong, up to as many as the network reaches.
They get no weight where the overlap allows it; between them the weights of two neighbours rise and fall linearly (our choice: the
simplest law whose sum is 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tiles:
    """Largest tile and overlap of neighbours, in latent cells (a cell is 8x8 pixels).

    Raises ValueError where the overlap is not smaller than the tile.
    """

    rows: int
    columns: int
    overlap: int

    def __post_init__(self) -> None:
        if self.overlap < 0 or self.overlap >= min(self.rows, self.columns):
            raise ValueError(
                f"tiles of {self.rows}x{self.columns} latent cells: overlap {self.overlap} must be at least 0 and "
                "smaller than the tile"
            )


@dataclass(frozen=True)
class Edge:
    """One side of a tile along one axis: begin and end, and by how much its neighbours overlap it."""

    begin: int
    end: int
    before: int
    after: int


@dataclass(frozen=True)
class Place:
    rows: Edge
    columns: Edge

    def cut(self, x: Tensor, unit: int) -> Tensor:
        """This tile of (..., H, W) whose cells are `unit` wide."""
        rows = slice(self.rows.begin * unit, self.rows.end * unit)
        return x[..., rows, self.columns.begin * unit : self.columns.end * unit]


class Layout:
    """Where the tiles of a grid lie, row by row."""

    def __init__(self, rows: int, columns: int, tiles: Tiles, reach: int | None) -> None:
        self.rows, self.columns, self.reach = rows, columns, reach
        self.places = [
            Place(one, other)
            for one in edges(rows, tiles.rows, tiles.overlap)
            for other in edges(columns, tiles.columns, tiles.overlap)
        ]

    def blend(self, results: Iterable[Tensor], unit: int) -> Tensor:
        """Results of the tiles in the order of `places`, (..., h*unit, w*unit) each -> the whole (..., H*unit, W*unit)."""
        if len(self.places) == 1:
            (whole,) = results
            return whole
        whole = weights = None
        for place, found in zip(self.places, results, strict=True):
            if whole is None or weights is None:
                whole = found.new_zeros(*found.shape[:-2], self.rows * unit, self.columns * unit)
                weights = found.new_zeros(self.rows * unit, self.columns * unit)
            weight = torch.outer(ramp(place.rows, self.reach, unit), ramp(place.columns, self.reach, unit)).to(found)
            place.cut(whole, unit).add_(found * weight)
            place.cut(weights, unit).add_(weight)
        assert whole is not None and weights is not None
        return whole / weights


def edges(size: int, tile: int, overlap: int) -> list[Edge]:
    """Tiles over an axis of `size` cells; the last one ends at the border and may overlap more."""
    if size <= tile:
        return [Edge(0, size, 0, 0)]
    begins = [*range(0, size - tile, tile - overlap), size - tile]
    shared = [begin + tile - following for begin, following in pairwise(begins)]
    return [
        Edge(begin, begin + tile, before, after)
        for begin, before, after in zip(begins, [0, *shared], [*shared, 0], strict=True)
    ]


def ramp(edge: Edge, reach: int | None, unit: int) -> Tensor:
    """Weights (cells * unit,) of a tile along one axis; a side without neighbour is the picture's border and keeps weight 1."""
    weight = torch.ones((edge.end - edge.begin) * unit, dtype=torch.float64)
    weight[: edge.before * unit] *= _rise(edge.before, reach, unit)
    weight[(edge.end - edge.begin - edge.after) * unit :] *= _rise(edge.after, reach, unit).flip(0)
    return weight


def _rise(overlap: int, reach: int | None, unit: int) -> Tensor:
    """0 for the hidden cells at the cut edge, then linear, then 1 where the neighbour's hidden cells are."""
    # Too small an overlap to hide all wrong cells: half of it still blends, so that no seam is sharp.
    hidden = 0 if reach is None else reach if overlap >= 2 * reach else overlap // 4
    place = torch.arange(overlap * unit, dtype=torch.float64) + 0.5 - hidden * unit
    return (place / max((overlap - 2 * hidden) * unit, 1)).clamp(0, 1)
