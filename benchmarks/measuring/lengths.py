"""A data set by its lengths alone: pictures of 256 px to 720p, clips of 2 to 10 s up to 720p; and other ways to deal it out.

Tokens at patches of 1x2x2 over a VAE of 4x8x8 (paper: 288x512, 480x864, 720x1280). The shares are our choice: the paper
names none. A clip lasts 2 to 10 s, evenly spread, at 24 frames/s: 12 to 61 latent frames.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from goku_core.packing import Mix

PICTURES = {"256x256": (256, 0.5), "288x512": (576, 0.25), "480x864": (1620, 0.15), "720x1280": (3600, 0.1)}
CLIPS = {"288x512": (576, 0.6), "480x864": (1620, 0.3), "720x1280": (3600, 0.1)}  # tokens of a latent frame
SECONDS, FPS = (2.0, 10.0), 24
PICTURE_SHARE = 0.8  # of samples

Dealt = list[list[np.ndarray]]  # lengths of each pack of each group


@dataclass(frozen=True)
class DataSet:
    """lengths (n,) in tokens; the mix in which they are shown."""

    lengths: np.ndarray
    mix: Mix


def data_set(samples: int, seed: int = 0) -> DataSet:
    """As many samples, four pictures to a clip, in random order."""
    rng = np.random.default_rng(seed)
    is_clip = rng.random(samples) >= PICTURE_SHARE
    pictures, clips = np.flatnonzero(~is_clip), np.flatnonzero(is_clip)
    lengths = np.empty(samples, np.int64)
    lengths[pictures] = _drawn(rng, PICTURES, len(pictures))
    frames = np.floor(rng.uniform(*SECONDS, len(clips)) * FPS).astype(np.int64)
    lengths[clips] = _drawn(rng, CLIPS, len(clips)) * ((frames - 1) // 4 + 1)
    return DataSet(lengths, Mix((pictures, clips), (PICTURE_SHARE, 1 - PICTURE_SHARE)))


def _drawn(rng: np.random.Generator, sizes: dict[str, tuple[int, float]], count: int) -> np.ndarray:
    tokens, shares = zip(*sizes.values(), strict=True)
    return rng.choice(tokens, count, p=shares)


def round_robin(size: np.ndarray, groups: int) -> Dealt:
    """Sample after sample to group after group, as they come: what a loader does that looks at no length."""
    return [[size[group::groups]] for group in range(groups)]


def token_balanced(size: np.ndarray, groups: int) -> Dealt:
    """Longest first to the group with the fewest tokens."""
    least = [(0, group) for group in range(groups)]
    packs: list[list[int]] = [[] for _ in range(groups)]
    for tokens in np.sort(size)[::-1].tolist():
        load, group = least[0]
        heapq.heapreplace(least, (load + tokens, group))
        packs[group].append(tokens)
    return [[np.array(pack)] for pack in packs]


class Buckets:
    """One bucket per group and step: samples of one length, as many as a budget holds, as bucketed loaders deal them.

    A bucket is drawn as often as it takes to show every sample equally often. `budget` is what a group computes in a step,
    in tokens or, with `cost`, in cost: the batch sizes that users of such loaders search by hand.
    """

    def __init__(self, lengths: np.ndarray, budget: float, cost: tuple[float, float] = (1.0, 0.0)) -> None:
        self.length, count = np.unique(lengths, return_counts=True)
        price = cost[0] * self.length + cost[1] * self.length.astype(float) ** 2
        self.batch = np.maximum(1, (budget / price).astype(np.int64))
        draws = count / self.batch
        self.share = draws / draws.sum()

    def step(self, groups: int, rng: np.random.Generator) -> Dealt:
        drawn = rng.choice(len(self.length), groups, p=self.share)
        return [[np.full(self.batch[bucket], self.length[bucket])] for bucket in drawn]


def padded_share(dealt: Dealt) -> float:
    """Share of padding if each pack were a batch, padded to its longest sample."""
    packs = [pack for own in dealt for pack in own if len(pack)]
    return 1 - sum(int(pack.sum()) for pack in packs) / sum(len(pack) * int(pack.max()) for pack in packs)
