"""How good a plan is: what is computed for nothing, and how long groups wait for the dearest one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from goku_core.packing.cost import Cost
from goku_core.packing.plan import Packs, Rounds


@dataclass(frozen=True)
class Balance:
    """Of one step.

    packs      of the group that has most
    tokens     of samples
    padding    share of padding in all tokens that are computed
    imbalance  what groups wait for the dearest one, over what they compute in the mean: max/mean - 1 of the groups' cost;
               in rounds, the sum over rounds of the dearest pack over the sum of means, - 1
    dearest    cost of the dearest sample over the mean cost of a group: above 1 nothing can balance the step
    """

    packs: int
    tokens: int
    padding: float
    imbalance: float
    dearest: float


def balance(packs: Packs, lengths: np.ndarray, cost: Cost, rounds: Rounds = "free", align: int = 1) -> Balance:
    """align  tokens of a pack are padded up to a multiple of it (1: not at all)"""
    sizes = [[lengths[rows].astype(np.float64) for rows in own] for own in packs]
    most = max(len(own) for own in sizes)
    costs = np.zeros((len(sizes), most))
    for group, own in enumerate(sizes):
        costs[group, : len(own)] = [cost[0] * pack.sum() + cost[1] * np.square(pack).sum() for pack in own]
    tokens = [int(pack.sum()) for pack in _each(sizes)]
    padded = sum(-(-count // align) * align for count in tokens)
    mean = costs.sum() / len(sizes)
    waited = costs.max(axis=0).sum() if rounds == "equal" else costs.sum(axis=1).max()
    dearest = max(float(cost[0] * n + cost[1] * n * n) for n in (pack.max() for pack in _each(sizes) if len(pack)))
    return Balance(
        packs=most,
        tokens=sum(tokens),
        padding=1 - sum(tokens) / padded,
        imbalance=float(waited / mean) - 1,
        dearest=dearest / float(mean),
    )


def _each(sizes: list[list[np.ndarray]]) -> Iterator[np.ndarray]:
    return (pack for own in sizes for pack in own)
