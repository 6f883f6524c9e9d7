"""How ranks share the work of a phase, and what one of them keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from goku_core.forecast.network import Recomputation
from goku_core.pipeline.errors import GokuError

Reshard = Literal["after_step", "after_block"]
NODE = 8  # GPUs of a machine
UNEVEN = 0.1  # tokens of a group above the mean: groups are equal in cost, not in tokens


@dataclass(frozen=True)
class Arrangement:
    """gpus = replicate x shard x sequence.

    shard        groups that share one copy of the weights; with their sequence ranks, `sharers` GPUs in all
    sequence     GPUs that share one pack, each a slice of its tokens
    reshard      weights are gathered for a step, and gradients meet once; or for a block, and gradients meet in every pack
    pack_tokens  most tokens of one pack; None: what a group has to do, in one pack
    """

    gpus: int
    shard: int
    sequence: int
    reshard: Reshard
    recomputation: Recomputation
    pack_tokens: int | None

    @property
    def sharers(self) -> int:
        return self.shard * self.sequence

    @property
    def groups(self) -> int:
        return self.gpus // self.sequence

    @property
    def replicas(self) -> int:
        return self.gpus // self.sharers

    def checked(self) -> Arrangement:
        """Itself. Raises `GokuError` where the GPUs do not fill the mesh."""
        if self.gpus % self.sharers:
            raise GokuError(
                f"{self.gpus} GPUs are no multiple of shard {self.shard} x sequence {self.sequence}: choose a --sequence that "
                f"divides {self.gpus}, and a --shard that divides the rest."
            )
        return self

    def largest_pack(self, longest: int, tokens: int) -> int:
        """Tokens that one forward pass of a group must hold, about: never less than the longest sample, which is not cut."""
        share = math.ceil(tokens / self.groups * (1 + UNEVEN))
        return max(longest, min(self.pack_tokens or share, share))

    def differences(self, other: Arrangement) -> list[str]:
        """What to change to get from `other` to this one, as a user would write it."""
        words = ("shard", "sequence", "reshard", "recomputation", "pack_tokens")
        return [f"{word}: {getattr(self, word)}" for word in words if getattr(self, word) != getattr(other, word)]


def alternatives(given: Arrangement, longest: int) -> list[Arrangement]:
    """Other arrangements of the same GPUs, those with the fewest changes first."""
    found = []
    for sequence in {given.sequence, *(s for s in (1, 2, 4, 8, 16, 32) if given.gpus % s == 0)}:
        groups = given.gpus // sequence
        shards = {s for s in (given.shard, 1, 2, 4, 8, 16, 32, 64, 128) if s <= groups and groups % s == 0}
        for shard in shards:
            for reshard in ("after_step", "after_block"):
                for recomputation in ("none", "selective", "full"):
                    for pack_tokens in {given.pack_tokens, longest}:
                        found.append(
                            replace(
                                given,
                                shard=shard,
                                sequence=sequence,
                                reshard=reshard,
                                recomputation=recomputation,
                                pack_tokens=pack_tokens,
                            )
                        )
    return sorted(found, key=lambda one: (len(one.differences(given)), one.sequence, one.shard))
