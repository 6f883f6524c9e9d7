"""in = kept + rejected + failed at every step, and no row lost or invented between two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_IDS = 5


class Conservation:
    """Counts the rows behind each step. Collects what is wrong instead of raising: the validation tells all of it at once."""

    def __init__(self, media: Iterable[str]) -> None:
        """media: ids of the sources that came in."""
        self._media = set(media)
        self._clips: set[str] | None = None
        self.steps: list[dict[str, Any]] = []

    def note(self, step: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """After the first step every source must have a row; after the others every clip must still be there, once."""
        outcomes = Counter(row["outcome"] for row in rows)
        clips = Counter(row["clip_id"] for row in rows)
        if self._clips is None:
            came, here = self._media, {row["media_id"] for row in rows}
        else:
            came, here = self._clips, set(clips)
        lost, strange = sorted(came - here), sorted(here - came)
        twice = sorted(clip for clip, count in clips.items() if count > 1)
        self.steps.append(
            {
                "step": step,
                "came": len(came),
                "rows": len(rows),
                "kept": outcomes["kept"],
                "rejected": outcomes["rejected"],
                "failed": outcomes["failed"],
                "lost": len(lost),
                "strange": len(strange),
                "twice": len(twice),
                "ids": [*lost[:MOST_IDS], *strange[:MOST_IDS], *twice[:MOST_IDS]],
            }
        )
        self._clips = set(clips)
