"""What the ranks of a run tell each other about a checkpoint: all of them go on, or all of them raise.

Work that fails on one rank (a full disk) must not leave the others waiting, so every rank tells how it went before any goes on.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from goku_core.pipeline.errors import GokuError

T = TypeVar("T")

# Longest wait for the slowest rank's disk. A public run on 768 nodes needed above 40 min on a slow store.
TIMEOUT = datetime.timedelta(minutes=60)


class Ranks:
    """The ranks of `group`, a gloo group that nothing else uses; None: all ranks, in a group made here by all of them at once.

    Its messages go in a background thread, while the training's own groups are busy. One process without torch.distributed is
    a run of one rank. Messages are pickled by torch on their way between the processes; nothing pickled is ever
    stored.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.count, self.rank, self._group = 1, 0, None
        if dist.is_available() and dist.is_initialized():
            self.count, self.rank = dist.get_world_size(group), dist.get_rank(group)
        if self.count > 1:
            self._group = group or dist.new_group(backend="gloo", timeout=TIMEOUT)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def each(self, work: Callable[[], T]) -> list[T]:
        """Does `work` on every rank; all get all results, by rank. Raises GokuError on every rank where one failed."""
        told: tuple[str | None, T | None]
        failed: Exception | None = None
        try:
            told = (None, work())
        except Exception as error:  # told to the others, raised below
            failed, told = error, (_told(error), None)
        everybody = self._all(told)
        self._raise(failed, {rank: message for rank, (message, _) in enumerate(everybody) if message is not None})
        return [result for _, result in everybody]  # type: ignore[misc]

    def first(self, work: Callable[[], T]) -> T:
        """Does `work` on the first rank; all get its result. Raises GokuError on every rank where it failed."""
        told: list[Any] = [None, None]
        failed: Exception | None = None
        if self.is_first:
            try:
                told = [None, work()]
            except Exception as error:  # told to the others, raised below
                failed, told = error, [_told(error), None]
        if self._group is not None:
            dist.broadcast_object_list(told, group=self._group, group_src=0, device=torch.device("cpu"))
        self._raise(failed, {0: told[0]} if told[0] is not None else {})
        return told[1]

    def gather(self, value: T) -> list[T]:
        """Every rank's value on the first rank; an empty list on the others."""
        if self._group is None:
            return [value]
        found: list[Any] | None = [None] * self.count if self.is_first else None
        dist.gather_object(value, found, group=self._group, group_dst=0)
        return found or []

    def scatter(self, values: list[T] | None) -> T:
        """Gives each rank its own of the first rank's values."""
        if self._group is None:
            assert values is not None
            return values[0]
        mine: list[Any] = [None]
        dist.scatter_object_list(mine, values if self.is_first else None, group=self._group, group_src=0)
        return mine[0]

    def _raise(self, own: Exception | None, failures: dict[int, str]) -> None:
        if not failures:
            return
        if self.count == 1 and isinstance(own, GokuError):
            raise own
        rank, message = next(iter(failures.items()))
        others = f" (and {len(failures) - 1} more ranks)" if len(failures) > 1 else ""
        raise GokuError(f"rank {rank}{others}: {message}" if self.count > 1 else message) from own

    def _all(self, value: Any) -> list[Any]:
        if self._group is None:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value, group=self._group)
        return found


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, GokuError) else f"{type(error).__name__}: {error}"
