"""Samples that cannot be read: recorded, replaced by others, and counted.

What stands in for a sample is a function of the index and the sample alone, so that it is the same at any arrangement of
ranks and after any restart.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import append_json_line, read_json_lines

TRIES = 8  # samples read in the place of one before the run stops (our choice)


class Unreadable:
    """walked   rows of the index that the phase shows
    share_max  of them that may be unreadable
    record     file of JSON lines, shared by all ranks and attempts; None: kept in memory only
    """

    def __init__(
        self, index: dict[str, np.ndarray], walked: np.ndarray, share_max: float, where: str, record: Path | None = None
    ) -> None:
        self.index, self.walked, self.share_max, self.where, self.record = index, walked, share_max, where, record
        self.ids: set[str] = set()
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Different samples, of all ranks and attempts as far as this one has heard of them."""
        return len(self.ids)

    def substitute(self, row: int, tried: set[int]) -> int | None:
        """The row that stands in for a row, none of those tried: of its kind and length from another shard (its own is likely to
        be damaged elsewhere too), then from its own, then a shorter one, which fits where it was to go. None where there is
        none, and after `TRIES`."""
        if len(tried) > TRIES:
            return None
        tokens, kind, shard = (self.index[name] for name in ("tokens", "kind", "shard"))
        alike = self.walked[(kind[self.walked] == kind[row]) & (tokens[self.walked] <= tokens[row])]
        alike = alike[~np.isin(alike, list(tried))]
        # those behind it in the index first; the last key counts most
        keys = (alike, alike < row, shard[alike] == shard[row], -tokens[alike].astype(np.int64))
        return int(alike[np.lexsort(keys)[0]]) if len(alike) else None

    def note(self, row: int, error: Exception, substitute: int | None) -> None:
        """Records that a row could not be read. Raises GokuError where nothing may stand in for it, and where too many are
        unreadable."""
        sample = str(self.index["sample_id"][row])
        with self._lock:
            if self.record is not None:
                self.ids |= {line["sample_id"] for line in read_json_lines(self.record)}
            if sample not in self.ids:
                self.ids.add(sample)
                self._write(row, sample, error, substitute)
            count = len(self.ids)
        if count > self.share_max * len(self.walked):
            raise GokuError(
                f"{count} of {len(self.walked)} samples of {self.where} cannot be read, more than "
                f"train.data.unreadable_max = {self.share_max:g} allows; the last one: {error} Find all of them with "
                "`goku latents verify`, make them again with `goku run precompute`, or raise the share."
            ) from error
        if substitute is None:
            raise GokuError(f"nothing can stand in for sample {sample} of {self.where}: {error}") from error

    def _write(self, row: int, sample: str, error: Exception, substitute: int | None) -> None:
        if self.record is None:
            return
        stands_in = None if substitute is None else str(self.index["sample_id"][substitute])
        line = {"sample_id": sample, "shard": str(self.index["shard"][row]), "error": str(error)}
        append_json_line(self.record, line | {"where": self.where, "substitute": stands_in})
