"""Samples to groups of ranks, so that no group works much longer than the mean.

The dear ones go one by one, dearest first, to the group with the least (the rule of longest processing time). What is
left is sand: too many samples for a loop, and each too cheap for its place to matter. Sand is poured: laid side by side,
and cut where the groups' gaps to a common level end. Dearer sand is poured first, so that finer sand evens out its cuts.
"""

from __future__ import annotations

import heapq

import numpy as np

# So many samples per group, and at least so many in all, are dealt one by one. What is poured is then cheaper than an
# eighth of a group's share; more would cost time and gain little (our choice).
PER_GROUP, AT_LEAST = 8, 2048


def deal(price: np.ndarray, groups: int) -> np.ndarray:
    """The group of each sample (n,), for whole prices (n,) that do not rise.

    No group gets more than the mean and one sample's price beyond it.
    """
    owner = np.empty(len(price), np.int64)
    begin = min(len(price), max(PER_GROUP * groups, AT_LEAST))
    owner[:begin] = _one_by_one(price[:begin], groups)
    load = np.bincount(owner[:begin], price[:begin], groups)
    while begin < len(price):
        # Down to half the price: a cut is wrong by at most half a sample, and what comes after is finer.
        end = int(np.searchsorted(-price, -price[begin] / 2, side="right"))
        owner[begin:end] = _poured(price[begin:end], load)
        load += np.bincount(owner[begin:end], price[begin:end], groups)
        begin = end
    return owner


def _one_by_one(price: np.ndarray, groups: int) -> list[int]:
    least = [(0.0, group) for group in range(groups)]  # a heap
    owner = []
    for own in price.tolist():
        load, group = least[0]
        heapq.heapreplace(least, (load + own, group))
        owner.append(group)
    return owner


def _poured(price: np.ndarray, load: np.ndarray) -> np.ndarray:
    """The group of each sample: that in whose gap its middle lies, with the samples laid out side by side."""
    order = np.argsort(load, kind="stable")
    ends = np.cumsum(_gaps(load[order], float(price.sum())))
    middle = np.cumsum(price) - price / 2
    return order[np.minimum(np.searchsorted(ends, middle, side="right"), len(load) - 1)]


def _gaps(load: np.ndarray, poured: float) -> np.ndarray:
    """What each of rising loads lacks to the level that they reach together when so much is poured over them."""
    levels = (poured + np.cumsum(load)) / np.arange(1, len(load) + 1)  # if only the first 1, 2, ... took part
    reached = max(1, int(np.count_nonzero(levels > load)))
    return np.maximum(levels[reached - 1] - load, 0.0)
