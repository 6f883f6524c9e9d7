"""The size at which a source is stored when its aspect ratio is kept. No buckets: a pack takes samples of any shape."""

from __future__ import annotations

import math


def size_within(area: int, rows: int, columns: int, unit: int = 16) -> tuple[int, int]:
    """(height, width): multiples of `unit`, at most `area` pixels, as near as they come to the ratio rows : columns.

    Of the sizes around the exact one the nearest in log ratio wins, of equal ones the larger. A ratio so extreme that a side
    would fall below `unit` keeps that side at `unit`; the source is then cut at its long ends.
    """
    if area < unit * unit:
        raise ValueError(f"an area of {area} px holds no {unit}x{unit}")
    scale = math.sqrt(area / (rows * columns))
    heights, widths = _around(rows * scale, unit), _around(columns * scale, unit)
    fitting = [(height, width) for height in heights for width in widths if height * width <= area]
    if not fitting:
        longest = area // unit // unit * unit
        return (longest, unit) if rows > columns else (unit, longest)
    return min(fitting, key=lambda size: (abs(math.log(size[0] * columns / (size[1] * rows))), -size[0] * size[1]))


def _around(side: float, unit: int) -> list[int]:
    below = max(unit, int(side // unit) * unit)
    return [below, below + unit]
