"""The samples of each group into packs that one forward pass holds: few of them, none above the limit of tokens."""

from __future__ import annotations

import numpy as np

# Samples above this share of a pack go one by one into the first pack with room; shorter ones fill what is left.
SHORT = 1 / 32


def first_fit(owner: np.ndarray, size: np.ndarray, groups: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Number (n,) of each sample's pack, group by group, and the packs (groups,) of each group.

    owner  group of each sample
    size   tokens (n,), not rising, none above `most`
    """
    by_group = np.argsort(owner.astype(np.uint16 if groups <= 1 << 16 else np.int64), kind="stable")
    owner, size = owner[by_group], size[by_group]
    count = np.bincount(owner, minlength=groups)
    first = np.cumsum(count) - count
    long = size > most * SHORT
    room = np.full((groups, 1 + int(np.bincount(owner, size, groups).max()) // most), most)
    pack = np.empty(len(size), np.int64)
    room = _long_ones(pack, size, first, np.bincount(owner[long], minlength=groups), room, most)
    room = _short_ones(pack, size, long, owner, room, most)
    packs = (room < most).sum(axis=1)
    number = np.empty(len(size), np.int64)
    number[by_group] = (np.cumsum(packs) - packs)[owner] + pack
    return number, packs


def _long_ones(
    pack: np.ndarray, size: np.ndarray, first: np.ndarray, count: np.ndarray, room: np.ndarray, most: int
) -> np.ndarray:
    """Longest first, each into the first pack of its group with room: all groups at once, sample after sample of each."""
    for place in range(int(count.max(initial=0))):
        groups = np.flatnonzero(count > place)
        samples = first[groups] + place
        fits = room[groups] >= size[samples, None]
        if not fits.any(axis=1).all():
            room = _one_more(room, most)
            fits = room[groups] >= size[samples, None]
        chosen = np.argmax(fits, axis=1)
        room[groups, chosen] -= size[samples]
        pack[samples] = chosen
    return room


def _short_ones(
    pack: np.ndarray, size: np.ndarray, long: np.ndarray, owner: np.ndarray, room: np.ndarray, most: int
) -> np.ndarray:
    """Side by side into the room that is left, pack after pack: all groups at once."""
    short = np.flatnonzero(~long)
    count = np.bincount(owner[short], minlength=len(room))
    ends = np.cumsum(count)
    at = ends - count
    laid = np.concatenate(([0], np.cumsum(size[short])))
    taken = []
    while (at < ends).any():
        if len(taken) == room.shape[1]:
            room = _one_more(room, most)
        free = room[:, len(taken)]
        until = np.minimum(np.searchsorted(laid, laid[at] + free, side="right") - 1, ends)
        room[:, len(taken)] -= laid[until] - laid[at]
        taken.append(until - at)
        at = until
    if taken:
        counts = np.stack(taken, axis=1)
        pack[short] = np.repeat(np.tile(np.arange(len(taken)), len(room)), counts.ravel())
    return room


def _one_more(room: np.ndarray, most: int) -> np.ndarray:
    return np.concatenate((room, np.full((len(room), 1), most)), axis=1)
