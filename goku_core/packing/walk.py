"""Which samples a step shows: places in an endless walk, known without replaying the steps before.

Each kind of sample (picture, clip) is walked through in epochs, a fresh permutation each; a sample repeated n times comes
once in each n-th of an epoch, so that its copies seldom meet in a step. A step takes a fixed number of each kind, so that
its place in the walk is a product.
"""

from __future__ import annotations

import weakref
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


@dataclass(frozen=True, eq=False)
class Mix:
    """Kinds of samples and their shares: `rows[k]` are the index rows of kind k, `shares[k]` its weight in samples.

    repeats  how often each of `rows[k]` is walked per epoch, in their order; 0 leaves a row out; () is once for all
    """

    rows: tuple[Sequence[int] | np.ndarray, ...]
    shares: tuple[float, ...]
    repeats: tuple[Sequence[int] | np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        for kind, (walk, share) in enumerate(zip(self.walks, self.shares, strict=True)):
            if share > 0 and not len(walk.rows):
                raise ValueError(f"kind {kind} has share {share:g} but no samples")

    @cached_property
    def walks(self) -> tuple[Walk, ...]:
        if not self.repeats:
            return tuple(Walk(np.array(rows, np.int64)) for rows in self.rows)
        return tuple(_repeated(rows, times) for rows, times in zip(self.rows, self.repeats, strict=True))

    def mean_lengths(self, lengths: np.ndarray) -> list[float]:
        """Mean tokens of a sample of each kind, as often as it is walked; 0 where there are none.

        Kept while `lengths` is the same array, which must not be changed: a mean over a million samples takes longer than
        the rest of a plan.
        """
        kept = self.__dict__.get("_means")
        if kept is None or kept[0]() is not lengths:
            means = [float(lengths[walk.rows].mean()) if len(walk.rows) else 0.0 for walk in self.walks]
            kept = self.__dict__["_means"] = (weakref.ref(lengths), means)
        return kept[1]


def _repeated(rows: Sequence[int] | np.ndarray, times: Sequence[int] | np.ndarray) -> Walk:
    count = np.array(times, np.int64)
    if len(rows) != len(count) or (count < 0).any():
        raise ValueError(f"{len(rows)} rows need as many repeats of 0 or more, there are {len(times)}")
    walked = np.repeat(np.array(rows, np.int64), count)
    if (count == 1).all():
        return Walk(walked)
    number = np.arange(len(walked)) - np.repeat(np.cumsum(count) - count, count)
    return Walk(walked, number, np.repeat(count, count))


def samples_per_step(lengths: np.ndarray, mix: Mix, tokens: float) -> list[int]:
    """How many samples of each kind fit the token budget at the wanted shares; at least one of each wanted kind."""
    total = sum(mix.shares)
    mean = mix.mean_lengths(lengths)
    cost = sum(share / total * length for share, length in zip(mix.shares, mean, strict=True))
    samples = tokens / cost
    return [max(1, round(samples * share / total)) if share > 0 else 0 for share in mix.shares]


def rows_of_step(lengths: np.ndarray, mix: Mix, tokens: float, seed: int, step: int) -> np.ndarray:
    """Index rows (n,) of a step, kind by kind in the order of the walk; a row repeated within the step stands there twice."""
    wanted = samples_per_step(lengths, mix, tokens)
    return np.concatenate(
        [_walk(mix.walks[kind], seed, kind, step * count, count) for kind, count in enumerate(wanted) if count]
    )


def _walk(walk: Walk, seed: int, kind: int, first: int, count: int) -> np.ndarray:
    """`count` rows from place `first` of the endless walk through permutations."""
    places = np.arange(first, first + count)
    epochs, within = np.divmod(places, len(walk.rows))
    parts = [
        walk.rows[_order(walk, seed, kind, epoch)[within[epochs == epoch]]]
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1)
    ]
    return np.concatenate(parts)


def _order(walk: Walk, seed: int, kind: int, epoch: int) -> np.ndarray:
    if walk.number is None:
        return _permutation(seed, kind, epoch, len(walk.rows))
    return _spread(walk, seed, kind, epoch)


# Few are kept: one of a million samples takes 8 MB, and a step needs those of one or two epochs of each kind.
@lru_cache(maxsize=8)
def _permutation(seed: int, kind: int, epoch: int, size: int) -> np.ndarray:
    return philox(seed, "order", str(kind), epoch).permutation(size)


@lru_cache(maxsize=8)
def _spread(walk: Walk, seed: int, kind: int, epoch: int) -> np.ndarray:
    """Copy j of n at a random place of the j-th n-th of the epoch."""
    draws = philox(seed, "order", str(kind), epoch).random(len(walk.rows))
    return np.argsort((walk.number + draws) / walk.copies, kind="stable")
