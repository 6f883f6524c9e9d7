"""Packs in rounds: every group has one pack in each, and all groups wait for the dearest pack of a round.

Dear samples meet dear ones: laid side by side from the longest on they are cut into packs, and packs of like price make a
round. Short samples are sand, which fills every pack of a round up to the price of its dearest one, and what is
then left raises all rounds alike.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

SAND = 1 / 64  # of a pack's tokens: longest sample that counts as sand (our choice)
FULL = 0.98  # of all packs' tokens: beyond it there is a round more, so that sand finds room (our choice)
TRIES = 4  # cuts of one class of sand, each for those that lay across an edge of the one before


def in_rounds(size: np.ndarray, price: np.ndarray, groups: int, most: int) -> tuple[np.ndarray, int]:
    """Place (n,) of each sample, round * groups + group, and the number of rounds.

    size   tokens (n,), not rising, none above `most`
    price  whole prices (n,), not rising
    """
    dear = int(np.searchsorted(-size, -most * SAND, side="left"))
    pack, packs = _side_by_side(size[:dear], most)
    rank = np.empty(packs, np.int64)
    rank[np.argsort(-np.bincount(pack, price[:dear], packs), kind="stable")] = np.arange(packs)
    rounds = max(-(-packs // groups), -(-int(size.sum()) // int(groups * most * FULL)), 1)
    place = np.full(len(size), -1)
    place[:dear] = rank[pack]
    poured = _Poured(np.bincount(place[:dear], price[:dear], rounds * groups), groups, most)
    poured.room -= np.bincount(place[:dear], size[:dear], rounds * groups).astype(np.int64)
    place[dear:] = poured.pour(size[dear:], price[dear:])
    return place, len(poured.load) // groups


def _side_by_side(size: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Number of each sample's pack when packs are filled in order, and how many packs there are."""
    ends = np.cumsum(size).tolist()
    counts, begin = [], 0
    while begin < len(ends):
        end = bisect_right(ends, (ends[begin - 1] if begin else 0) + most, begin)
        counts.append(end - begin)
        begin = end
    return np.repeat(np.arange(len(counts)), counts), len(counts)


class _Poured:
    """Places by load and room (round * groups + group), into which sand is poured."""

    def __init__(self, load: np.ndarray, groups: int, most: int) -> None:
        self.load, self.groups, self.most = load, groups, most
        self.room = np.full(len(load), most)

    def pour(self, size: np.ndarray, price: np.ndarray) -> np.ndarray:
        """The place of each sample."""
        place = np.full(len(size), -1)
        left = np.arange(len(size))
        for _ in range(2):  # the first level is a little off: prices per token differ from class to class
            ceiling = self._ceiling(size[left], price[left])
            for begin, end in _classes(size[left]):
                self._cut(left[begin:end], place, size, price, ceiling)
            left = np.flatnonzero(place < 0)
        for sample in left.tolist():  # the few that lay across edges every time
            place[sample] = self._lowest(int(size[sample]), float(price[sample]))
        return place

    def _ceiling(self, size: np.ndarray, price: np.ndarray) -> np.ndarray:
        """Up to which load each place is filled: what its round waits for anyway, and more by the same in all rounds."""
        dearest = np.repeat(self.load.reshape(-1, self.groups).max(axis=1), self.groups)
        if not len(size):
            return dearest
        wanted = float(price.sum())
        begin = self.load - dearest
        holds = self.room * (wanted / float(size.sum()))
        points = np.concatenate((begin, begin + holds))
        slopes = np.concatenate((np.ones(len(begin)), -np.ones(len(begin))))
        order = np.argsort(points, kind="stable")
        points, slope = points[order], np.cumsum(slopes[order])[:-1]
        taken = np.concatenate(([0.0], np.cumsum(slope * np.diff(points))))
        at = int(np.searchsorted(taken, wanted))
        if at == len(taken):
            return np.full(len(begin), np.inf)
        raised = points[at - 1] + (wanted - taken[at - 1]) / slope[at - 1] if at else points[0]
        return dearest + max(0.0, float(raised))

    def _cut(
        self, samples: np.ndarray, place: np.ndarray, size: np.ndarray, price: np.ndarray, ceiling: np.ndarray
    ) -> None:
        for _ in range(TRIES):
            if not len(samples):
                return
            per_token = float(price[samples].sum()) / float(size[samples].sum())
            free = np.clip((ceiling - self.load) / max(per_token, 1e-300), 0, self.room)
            free = np.where(free >= size[samples[-1]], free, 0.0)
            edges = np.cumsum(free)
            ends = np.cumsum(size[samples])
            first = np.searchsorted(edges, ends - size[samples], side="right")
            last = np.searchsorted(edges, ends, side="left")
            whole = (first == last) & (last < len(edges))
            if not whole.any():
                return
            put, to = samples[whole], last[whole]
            place[put] = to
            self.load += np.bincount(to, price[put], len(self.load))
            self.room -= np.bincount(to, size[put], len(self.room)).astype(np.int64)
            samples = samples[~whole]

    def _lowest(self, size: int, price: float) -> int:
        """The place with room that lies lowest below its round's dearest; a new round where none has room."""
        if not (self.room >= size).any():
            self.load = np.concatenate((self.load, np.zeros(self.groups)))
            self.room = np.concatenate((self.room, np.full(self.groups, self.most)))
        dearest = np.repeat(self.load.reshape(-1, self.groups).max(axis=1), self.groups)
        chosen = int(np.argmin(np.where(self.room >= size, self.load - dearest, np.inf)))
        self.load[chosen] += price
        self.room[chosen] -= size
        return chosen


def _classes(size: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of falling sizes, each down to half of its first."""
    found, begin = [], 0
    while begin < len(size):
        end = int(np.searchsorted(-size, -size[begin] / 2, side="right"))
        found.append((begin, end))
        begin = end
    return found
