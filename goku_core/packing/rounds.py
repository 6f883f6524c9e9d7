"""Packs in rounds: every group has one pack in each, and all groups wait for the dearest pack of a round.

Dear samples meet dear ones: a round takes the longest that are left, each group the longest that still fits below a common
level. Short samples are sand, which fills every pack of a round up to the price of its dearest one, and what is
then left raises all rounds alike.
"""

from __future__ import annotations

import numpy as np

SAND = 1 / 64  # of a pack's tokens: longest sample that counts as sand (our choice)
FULL = 0.95  # of a pack's tokens that long samples may fill in the mean: the rest evens out the levels (our choice)
LOOPS = 3  # levels of sand: prices per token differ from class to class, so the first is a little off
TRIES = 8  # cuts of one class of sand, each for those that lay across an edge of the one before


def in_rounds(size: np.ndarray, price: np.ndarray, groups: int, most: int) -> tuple[np.ndarray, int]:
    """Place (n,) of each sample, round * groups + group, and the number of rounds.

    size   tokens (n,), not rising, none above `most`
    price  whole prices (n,), not rising
    """
    place = np.full(len(size), -1)
    dear = int(np.searchsorted(-size, -most * SAND, side="left"))
    left, rounds = np.arange(dear), 0
    while len(left):
        left = _one_round(left, place, size, price, groups, most, rounds)
        rounds += 1
    rounds = max(rounds, -(-int(size.sum()) // max(1, int(groups * most * FULL))))
    poured = _Poured(rounds, groups, most)
    poured.put(place[:dear], size[:dear], price[:dear])
    place[dear:] = poured.pour(size[dear:], price[dear:])
    return place, len(poured.load) // groups


def _one_round(
    left: np.ndarray, place: np.ndarray, size: np.ndarray, price: np.ndarray, groups: int, most: int, number: int
) -> np.ndarray:
    """Places samples of a round, and returns those that are left for the rounds after it."""
    level = _level(size[left], price[left], groups, most)
    load, room, group = np.zeros(groups), np.full(groups, most), np.arange(groups)
    while True:
        # Of the samples that are left, each group takes the longest that it can; of two that could take the same one, the
        # group that could take more takes it, and the other the next.
        first = np.maximum(
            np.searchsorted(-price[left], load - level, side="left"), np.searchsorted(-size[left], -room, side="left")
        )
        order = np.argsort(first, kind="stable")
        taken = np.maximum.accumulate(first[order] - group) + group
        order, taken = order[taken < len(left)], taken[taken < len(left)]
        if not len(taken):
            return left
        samples = left[taken]
        place[samples] = number * groups + order
        load[order] += price[samples]
        room[order] -= size[samples]
        left = np.delete(left, taken)


def _level(size: np.ndarray, price: np.ndarray, groups: int, most: int) -> float:
    """The price up to which packs of a round are filled: the longest sample's, or that of a pack of the shortest samples
    that the round has room for, if that is more. Packs of longer ones reach it with fewer tokens."""
    last = int(np.searchsorted(np.cumsum(size), groups * most * FULL))
    if last < len(size):
        return max(float(price[0]), FULL * most * float(price[last]) / float(size[last]))
    return max(float(price[0]), float(price.sum()) / groups + float(price[-1]))


class _Poured:
    """Places by load and room (round * groups + group), into which sand is poured."""

    def __init__(self, rounds: int, groups: int, most: int) -> None:
        self.groups, self.most = groups, most
        self.load, self.room = np.zeros(rounds * groups), np.full(rounds * groups, most)

    def put(self, to: np.ndarray, size: np.ndarray, price: np.ndarray) -> None:
        self.load += np.bincount(to, price, len(self.load)).astype(np.float64)  # of none they are integers
        self.room -= np.bincount(to, size, len(self.room)).astype(np.int64)

    def pour(self, size: np.ndarray, price: np.ndarray) -> np.ndarray:
        """The place of each sample."""
        place = np.full(len(size), -1)
        left = np.arange(len(size))
        for _ in range(LOOPS):
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
            self.put(to, size[put], price[put])
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
