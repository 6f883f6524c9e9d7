"""The plan of a step: a pure function of (index, seed, step).

Each kind of sample (picture, clip) is walked through in epochs, a fresh permutation each. A step takes a fixed number of each
kind, so that its place in the walk is known without replaying earlier steps. Packs are dealt to ranks by cost a*n + b*n^2
(attention makes long samples dearer than their tokens), dearest first to the cheapest rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from goku_core.packing.draws import philox


@dataclass(frozen=True)
class Mix:
    """Kinds of samples and their shares: `rows[k]` are the index rows of kind k, `shares[k]` its weight in samples."""

    rows: tuple[tuple[int, ...], ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        for kind, (rows, share) in enumerate(zip(self.rows, self.shares, strict=True)):
            if share > 0 and not rows:
                raise ValueError(f"kind {kind} has share {share:g} but no samples")


def samples_per_step(lengths: np.ndarray, mix: Mix, tokens: int) -> list[int]:
    """How many samples of each kind fit the token budget at the wanted shares; at least one of each wanted kind."""
    total = sum(mix.shares)
    mean = [float(lengths[list(rows)].mean()) if rows else 0.0 for rows in mix.rows]
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
        [_walk(mix.rows[kind], seed, kind, step * count, count) for kind, count in enumerate(wanted) if count]
    )
    price = cost[0] * lengths[rows] + cost[1] * lengths[rows].astype(np.float64) ** 2
    packs: list[list[int]] = [[] for _ in range(ranks)]
    load = np.zeros(ranks)
    for position in np.argsort(-price, kind="stable"):
        cheapest = int(np.argmin(load))
        packs[cheapest].append(int(rows[position]))
        load[cheapest] += price[position]
    return [np.array(sorted(pack, key=lambda row: (lengths[row], row)), dtype=np.int64) for pack in packs]


def _walk(rows: Sequence[int], seed: int, kind: int, first: int, count: int) -> np.ndarray:
    """`count` rows from place `first` of the endless walk through permutations."""
    places = np.arange(first, first + count)
    epochs, within = np.divmod(places, len(rows))
    order = {epoch: _permutation(seed, kind, int(epoch), len(rows)) for epoch in np.unique(epochs)}
    return np.array([rows[order[epoch][place]] for epoch, place in zip(epochs, within, strict=True)], dtype=np.int64)


@lru_cache(maxsize=16)
def _permutation(seed: int, kind: int, epoch: int, size: int) -> np.ndarray:
    return philox(seed, "order", str(kind), epoch).permutation(size)
