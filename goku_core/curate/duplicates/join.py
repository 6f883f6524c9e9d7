"""All pairs of 64-bit hashes that differ in few bits, without comparing all pairs.

Multi-index hashing (Norouzi, Punjani, Fleet 2012): cut the hash into bands; of two hashes that differ in at most r bits,
some band of b differs in at most r // b. Hence whoever looks up every band under all keys that are so near finds every pair.
How many bands is chosen by what the search will cost; where nothing is cheaper, all pairs are compared. Either way the
result is the same, which a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import numpy as np

BITS = 64
WIDEST = 22  # bits of a band: its table of 4 million entries is the largest that is still quickly filled
PAIRS = 1 << 21  # compared at a time: bounds memory to about 100 MB
# What one lookup costs, in comparisons; and how much fuller than evenly filled the buckets that are hit tend to be, because
# bits of pictures are neither even nor independent (measured on procedural clips: 2 to 6).
LOOKUP, SKEW = 12.0, 4.0

Pairs = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Band:
    """Bits ``low`` to ``low + width`` of a hash."""

    low: int
    width: int

    def of(self, hashes: np.ndarray) -> np.ndarray:
        return ((hashes >> np.uint64(self.low)) & np.uint64((1 << self.width) - 1)).astype(np.int64)


def bands(count: int) -> list[Band]:
    """The 64 bits in ``count`` parts of about equal width."""
    edges = [index * BITS // count for index in range(count + 1)]
    return [Band(low, high - low) for low, high in pairwise(edges)]


def near_pairs(queries: np.ndarray, entries: np.ndarray, radius: int, count: int | None = None) -> Iterator[Pairs]:
    """Pairs (i, j) with at most ``radius`` bits between ``queries[i]`` and ``entries[j]``, each once, in parts.

    queries, entries  uint64 (n,) and (m,)
    count             bands; by default the cheapest number, 0 compares all pairs
    """
    if len(queries) == 0 or len(entries) == 0 or radius < 0:
        return
    chosen = cheapest(len(queries), len(entries), radius) if count is None else count
    if chosen == 0:
        yield from _all_pairs(queries, entries, radius)
        return
    parts = bands(chosen)
    for number, band in enumerate(parts):
        yield from _of_band(queries, entries, radius, band, parts[:number], radius // chosen)


def cheapest(queries: int, entries: int, radius: int) -> int:
    """Number of bands with the least expected work; 0 for all pairs."""
    costs = {0: float(queries) * entries}
    for count in range(-(-BITS // WIDEST), 17):
        width = max(band.width for band in bands(count))
        narrow = min(band.width for band in bands(count))
        probes = sum(comb(width, k) for k in range(radius // count + 1))
        costs[count] = count * probes * queries * (LOOKUP + SKEW * entries / 2.0**narrow) + count * 2.0**width
    return min(costs, key=lambda count: (costs[count], count))


def _all_pairs(queries: np.ndarray, entries: np.ndarray, radius: int) -> Iterator[Pairs]:
    rows = max(1, PAIRS // len(entries))
    columns = min(len(entries), PAIRS)
    for top in range(0, len(queries), rows):
        for left in range(0, len(entries), columns):
            unlike = queries[top : top + rows, None] ^ entries[None, left : left + columns]
            i, j = np.nonzero(np.bitwise_count(unlike) <= radius)
            yield i + top, j + left


def _of_band(
    queries: np.ndarray, entries: np.ndarray, radius: int, band: Band, earlier: list[Band], reach: int
) -> Iterator[Pairs]:
    """Pairs that are near in ``band`` and not in an earlier one, which has given them already."""
    keys = band.of(entries)
    order = np.argsort(keys, kind="stable")
    ordered = entries[order]
    begins = np.zeros((1 << band.width) + 1, np.int64)
    np.cumsum(np.bincount(keys, minlength=1 << band.width), out=begins[1:])
    # Neighbours in the table are asked for one after the other: memory is read in order.
    asking = np.argsort(band.of(queries), kind="stable")
    wanted, sought = band.of(queries)[asking], queries[asking]
    for mask in _masks(band.width, reach):
        probe = wanted ^ mask
        first, sizes = begins[probe], begins[probe + 1] - begins[probe]
        for low, high in _portions(sizes):
            each = sizes[low:high]
            total = int(each.sum())
            if total == 0:
                continue
            i = np.repeat(np.arange(low, high), each)
            within = np.arange(total) - np.repeat(np.cumsum(each) - each, each)
            place = np.repeat(first[low:high], each) + within
            unlike = sought[i] ^ ordered[place]
            good = np.flatnonzero(np.bitwise_count(unlike) <= radius)
            for before in earlier:
                good = good[np.bitwise_count(before.of(unlike[good])) > reach]
            yield asking[i[good]], order[place[good]]


def _masks(width: int, reach: int) -> Iterator[int]:
    for changed in range(reach + 1):
        for places in combinations(range(width), changed):
            yield sum(1 << place for place in places)


def _portions(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Runs of queries with at most `PAIRS` pairs together, or a single query with more."""
    reached = np.cumsum(sizes)
    low = 0
    while low < len(sizes):
        done = int(reached[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(reached, done + PAIRS, side="right")))
        yield low, high
        low = high
