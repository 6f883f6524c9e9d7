"""Near-duplicates among all kept clips, within and across sources: of those that look alike the best one stays.

The paper looks within one source (section 4.4); here also across sources, since copies of one film come under many names. Two
clips are near-duplicates when the hash of one is near the hash of the other or of a window of it (`scores.resemblance`), and
a closer look (`likeness`) agrees. `join` finds the pairs of near hashes without comparing all; the result is that of comparing
all. A clip is compared only with those that stay, so that nothing goes because of one that went itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from goku_core.curate.duplicates import LOOKS_LIKE
from goku_core.curate.duplicates.choice import Duplicate, ranked
from goku_core.curate.duplicates.join import near_pairs
from goku_core.curate.duplicates.likeness import Looks
from goku_core.curate.duplicates.request import Dedup
from goku_core.curate.gate import Verdict

# Clips are taken in parts, best first, each as large as all before it: of ten thousand copies of one clip, all but those
# of the first part are compared with the one that stays, not with each other.
FIRST_PART = 1024
Better = dict[int, tuple[int, int]]  # position -> (position of the better clip, bits)
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # positions of the worse and the better clip, bits


def find(rows: Sequence[Mapping[str, Any]], bounds: Dedup) -> list[Duplicate]:
    """Rows that go, in order of position. rows: as in clips.parquet; only kept ones are looked at.

    Raises `GokuError` where a kept row has no signature.
    """
    if bounds.max_hamming < 0:
        return []
    found: list[Duplicate] = []
    for order in ranked(rows):
        own = bounds.of(rows[order[0]]["kind"]) if order else bounds
        for position, (better, bits) in better_ones(Looks([rows[i] for i in order]), own).items():
            text = f"{LOOKS_LIKE}{rows[order[better]]['clip_id']}, which is at least as good ({bits} of 64 bits differ)"
            verdict = Verdict("near_duplicate", float(bits), float(bounds.max_hamming), text)
            found.append(Duplicate(order[position], verdict))
    return sorted(found, key=lambda duplicate: duplicate.row)


def better_ones(looks: Looks, bounds: Dedup, bands: int | None = None) -> Better:
    """Those of clips ranked best first that go, with the best of those that stay and are like them.

    bands: for `near_pairs`; the result does not depend on it.
    """
    gone: Better = {}
    staying = np.empty(0, np.int64)
    total, low = len(looks.hashes), 0
    while low < total:
        part = np.arange(low, min(total, low + max(FIRST_PART, low)))
        met = _best(matches(looks, part, staying, bounds, bands))
        rest = part[~np.isin(part, list(met))]
        among = _among(matches(looks, rest, None, bounds, bands))
        gone |= met | among
        staying = np.concatenate([staying, rest[~np.isin(rest, list(among))]])
        low += len(part)
    return gone


def _best(matches: Pairs) -> Better:
    """Of clips compared with those that stay: the best of these."""
    found: Better = {}
    for worse, better, bits in zip(*(part.tolist() for part in matches), strict=True):
        found[worse] = min(found.get(worse, (better, bits)), (better, bits))
    return found


def _among(matches: Pairs) -> Better:
    """Of clips compared with each other: in order of rank, each against those that stay."""
    likes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for worse, better, bits in zip(*(part.tolist() for part in matches), strict=True):
        likes[worse].append((better, bits))
    found: Better = {}
    for worse in sorted(likes):
        if staying := [one for one in likes[worse] if one[0] not in found]:
            found[worse] = min(staying)
    return found


def matches(
    looks: Looks, clips: np.ndarray, others: np.ndarray | None, bounds: Dedup, bands: int | None = None
) -> Pairs:
    """Alike pairs of a clip and one of the others; without others, of the clips themselves. Each pair once."""
    hashes = looks.hashes
    sides = [(clips, clips if others is None else others)] + ([] if others is None else [(others, clips)])
    found = [np.empty((0, 4), np.int64)]  # bits, whole, cropped, window
    for whole, cropped in sides:
        entries = hashes[cropped].T.ravel()  # window by window
        for i, j in near_pairs(hashes[whole, 0], entries, bounds.max_hamming, bands):
            window, of = np.divmod(j, len(cropped))
            a, b = whole[i], cropped[of]
            bits = np.bitwise_count(hashes[a, 0] ^ hashes[b, window]).astype(np.int64)
            found.append(np.stack([bits, a, b, window], axis=1)[a != b])
    near = np.concatenate(found)
    # The closer look is taken at the window whose hash is nearest; of equal ones at the first.
    worse, better = near[:, 1:3].max(axis=1), near[:, 1:3].min(axis=1)
    order = np.lexsort((near[:, 3], near[:, 1], near[:, 0], better, worse))
    near, worse, better = near[order], worse[order], better[order]
    first = np.ones(len(near), bool)
    first[1:] = (worse[1:] != worse[:-1]) | (better[1:] != better[:-1])
    near, worse, better = near[first], worse[first], better[first]
    good = looks.alike(near[:, 1], near[:, 2], near[:, 3], bounds)
    return worse[good], better[good], near[good, 0]
