"""The plan of a step: a pure function of (index, seed, step), from the index alone.

Which samples a step shows depends on nothing else; how they are shared is the arrangement: over groups of ranks by cost
a*n + b*n^2 (attention makes long samples dearer than their tokens), and within a group into packs that one pass holds.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from goku_core.packing.bins import first_fit
from goku_core.packing.cost import Cost, prices
from goku_core.packing.deal import deal
from goku_core.packing.rounds import in_rounds
from goku_core.packing.walk import Mix, rows_of_step

Rounds = Literal["free", "equal"]
Packs = list[list[np.ndarray]]


def plan(
    lengths: np.ndarray,
    mix: Mix,
    tokens: float,
    seed: int,
    step: int,
    groups: int = 1,
    cost: Cost = (1.0, 0.0),
    pack_tokens: int | None = None,
    rounds: Rounds = "free",
) -> Packs:
    """Index rows of each pack of each group at `step`, those of a pack by length. The rows of a step, taken together, are
    the same for any `groups`, `cost`, `pack_tokens` and `rounds`.

    lengths      tokens of every sample of the index; not to be changed between calls
    tokens       token budget of the step, over all groups
    groups       ranks that share one pack are one group
    cost         (a, b) of a*n + b*n^2
    pack_tokens  most tokens of a pack; None: no limit
    rounds       "free": groups wait for one another once a step; each has as many packs as its samples need, at least
                 one. "equal": they wait at every pack; all have as many, and packs of the same place cost alike. A pack
                 without samples is an empty array.
    Raises ValueError for a sample longer than `pack_tokens`.
    """
    return arrange(lengths, rows_of_step(lengths, mix, tokens, seed, step), groups, cost, pack_tokens, rounds)


def arrange(
    lengths: np.ndarray,
    rows: np.ndarray,
    groups: int = 1,
    cost: Cost = (1.0, 0.0),
    pack_tokens: int | None = None,
    rounds: Rounds = "free",
) -> Packs:
    """Rows (n,) of a step as `plan` shares them; their order does not matter."""
    rows, size = _longest_first(rows, lengths)
    if pack_tokens is not None and len(size) and size[0] > pack_tokens:
        raise ValueError(
            f"row {rows[0]} has {size[0]} tokens, a pack holds pack_tokens = {pack_tokens}. Raise pack_tokens, let more ranks "
            "share a pack, or leave samples of this length out of the index."
        )
    price = prices(size, cost)
    if rounds == "equal" and pack_tokens is not None:
        place, count = in_rounds(size, price, groups, pack_tokens)
        packs = _cut(rows, place, count * groups)
        return [packs[group::groups] for group in range(groups)]
    owner = deal(price, groups) if groups > 1 else np.zeros(len(rows), np.int64)
    if pack_tokens is None:
        return [[own] for own in _cut(rows, owner, groups)]
    number, counts = first_fit(owner, size, groups, pack_tokens)
    packs = _cut(rows, number, int(counts.sum()))
    ends = np.cumsum(counts).tolist()
    shared = [packs[end - count : end] for end, count in zip(ends, counts.tolist(), strict=True)]
    return [own or [np.empty(0, np.int64)] for own in shared]


def _longest_first(rows: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows by falling (length, row), and their lengths. As one number each: sorting numbers is what numpy does fastest."""
    bits = int(rows.max(initial=0)).bit_length()
    keys = np.sort((lengths[rows].astype(np.int64) << bits) | rows)[::-1]
    return keys & ((1 << bits) - 1), keys >> bits


def _cut(rows: np.ndarray, number: np.ndarray, packs: int) -> list[np.ndarray]:
    """The rows of each pack, by rising (length, row)."""
    small = number.astype(np.uint16) if packs <= 1 << 16 else number  # small numbers are sorted by counting
    together = rows[np.argsort(small, kind="stable")][::-1]
    ends = (len(rows) - np.cumsum(np.bincount(number, minlength=packs))).tolist()
    return [together[end:begin] for begin, end in zip([len(rows), *ends[:-1]], ends, strict=True)]
