"""The packs of one group of ranks, step by step, made ahead of the step that wants them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from goku_core.train.data.pack import Pack
from goku_core.train.data.packer import Packer


class Loader:
    """Packs of `group`, one of `groups` that share each step. What it gives does not depend on `ahead` or `threads`.

    ahead    steps that are made while the one before them is computed: what waits in memory is never more
    threads  samples read and noised at once
    Packs are page-locked where torch sees CUDA.
    """

    def __init__(self, packer: Packer, group: int = 0, groups: int = 1, ahead: int = 2, threads: int = 1) -> None:
        self.packer, self.group, self.groups, self.ahead = packer, group, groups, ahead
        # One thread puts steps together in their order, so that the nearest one is ready first; the readers work for it.
        self._maker = ThreadPoolExecutor(1, "packs") if ahead else None
        self._readers = ThreadPoolExecutor(threads, "samples") if threads > 1 else None
        self._coming: dict[int, Future[list[Pack]]] = {}
        self._pinned = torch.cuda.is_available()

    def step(self, data_step: int) -> list[Pack]:
        """The packs of a data step; begins with those after it. Raises what making them raised."""
        if self._maker is None:
            return self._made(data_step)
        wanted = range(data_step, data_step + self.ahead + 1)
        for other in [step for step in self._coming if step not in wanted]:
            self._coming.pop(other).cancel()
        for step in wanted:
            if step not in self._coming:
                self._coming[step] = self._maker.submit(self._made, step)
        return self._coming.pop(data_step).result()

    def _made(self, step: int) -> list[Pack]:
        each = map if self._readers is None else self._readers.map
        packs = self.packer.packs(step, self.group, self.groups, each)
        return [pack.pinned() for pack in packs] if self._pinned else packs

    def close(self) -> None:
        """Ends what reads ahead; returns when nothing of it runs any more."""
        for pool in (self._maker, self._readers):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
        self._coming.clear()
