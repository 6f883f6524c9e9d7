"""The plan of a step: a pure function of (index, seed, step).

Each kind of sample (picture, clip) is walked through in epochs, a fresh permutation each; a sample repeated n times comes
once in each n-th of an epoch, so that its copies seldom meet in a step. A step takes a fixed number of each kind, so that
its place in the walk is known without replaying earlier steps. Packs are dealt to ranks by cost a*n + b*n^2
(attention makes long samples dearer than their tokens), dearest first to the cheapest rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from goku_core.packing.draws import philox


@dataclass(frozen=True, eq=False)
class Walk:
    """An epoch of one kind: `rows` (n,) with every repeat; copy `number` (n,) of `copies` (n,), None where all are 1."""

    rows: np.ndarray
    number: np.ndarray | None = None
    copies: np.ndarray | None = None


@dataclass(frozen=True)
class Mix:
    """Kinds of samples and their shares: `rows[k]` are the index rows of kind k, `shares[k]` its weight in samples.

    repeats  how often each of `rows[k]` is walked per epoch, in their order; 0 leaves a row out; () is once for all
    """

    rows: tuple[tuple[int, ...], ...]
    shares: tuple[float, ...]
    repeats: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        for kind, (walk, share) in enumerate(zip(self.walks, self.shares, strict=True)):
            if share > 0 and not len(walk.rows):
                raise ValueError(f"kind {kind} has share {share:g} but no samples")

    @cached_property
    def walks(self) -> tuple[Walk, ...]:
        if not self.repeats:
            return tuple(Walk(np.array(rows, np.int64)) for rows in self.rows)
        return tuple(_repeated(rows, times) for rows, times in zip(self.rows, self.repeats, strict=True))


def _repeated(rows: Sequence[int], times: Sequence[int]) -> Walk:
    if len(rows) != len(times) or min(times, default=0) < 0:
        raise ValueError(f"{len(rows)} rows need as many repeats of 0 or more, there are {len(times)}")
    count = np.array(times, np.int64)
    walked = np.repeat(np.array(rows, np.int64), count)
    if (count == 1).all():
        return Walk(walked)
    number = np.arange(len(walked)) - np.repeat(np.cumsum(count) - count, count)
    return Walk(walked, number, np.repeat(count, count))


def samples_per_step(lengths: np.ndarray, mix: Mix, tokens: int) -> list[int]:
    """How many samples of each kind fit the token budget at the wanted shares; at least one of each wanted kind."""
    total = sum(mix.shares)
    mean = [float(lengths[walk.rows].mean()) if len(walk.rows) else 0.0 for walk in mix.walks]
    cost = sum(share / total * length for share, length in zip(mix.shares, mean, strict=True))
    samples = tokens / cost
    return [max(1, round(samples * share / total)) if share > 0 else 0 for share in mix.shares]


def plan(
    lengths: np.ndarray,
    mix: Mix,
    tokens: int,
    seed: int,
    step: int,
    ranks: int = 1,
    cost: tuple[float, float] = (1.0, 0.0),
) -> list[np.ndarray]:
    """Index rows for each rank at `step`, each rank's sorted by length.

    lengths  tokens of every sample of the index
    tokens   token budget of a rank and step
    cost     (a, b) of a*n + b*n^2, measured on the machine
    """
    wanted = samples_per_step(lengths, mix, tokens * ranks)
    rows = np.concatenate(
        [_walk(mix.walks[kind], seed, kind, step * count, count) for kind, count in enumerate(wanted) if count]
    )
    price = cost[0] * lengths[rows] + cost[1] * lengths[rows].astype(np.float64) ** 2
    packs: list[list[int]] = [[] for _ in range(ranks)]
    load = np.zeros(ranks)
    for position in np.argsort(-price, kind="stable"):
        cheapest = int(np.argmin(load))
        packs[cheapest].append(int(rows[position]))
        load[cheapest] += price[position]
    return [np.array(sorted(pack, key=lambda row: (lengths[row], row)), dtype=np.int64) for pack in packs]


def _walk(walk: Walk, seed: int, kind: int, first: int, count: int) -> np.ndarray:
    """`count` rows from place `first` of the endless walk through permutations."""
    places = np.arange(first, first + count)
    epochs, within = np.divmod(places, len(walk.rows))
    parts = [walk.rows[_order(walk, seed, kind, int(epoch))[within[epochs == epoch]]] for epoch in np.unique(epochs)]
    return np.concatenate(parts)


def _order(walk: Walk, seed: int, kind: int, epoch: int) -> np.ndarray:
    if walk.number is None:
        return _permutation(seed, kind, epoch, len(walk.rows))
    return _spread(walk, seed, kind, epoch)


@lru_cache(maxsize=16)
def _permutation(seed: int, kind: int, epoch: int, size: int) -> np.ndarray:
    return philox(seed, "order", str(kind), epoch).permutation(size)


@lru_cache(maxsize=16)
def _spread(walk: Walk, seed: int, kind: int, epoch: int) -> np.ndarray:
    """Copy j of n at a random place of the j-th n-th of the epoch."""
    draws = philox(seed, "order", str(kind), epoch).random(len(walk.rows))
    return np.argsort((walk.number + draws) / walk.copies, kind="stable")
