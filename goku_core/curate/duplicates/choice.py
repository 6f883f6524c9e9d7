"""Which of several clips that are alike stays: the better one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goku_core.curate.gate import Verdict


@dataclass(frozen=True)
class Duplicate:
    """``row`` (position in the table) goes, because it resembles a better one."""

    row: int
    verdict: Verdict


def ranked(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    """Positions of kept rows, best first: those of clips, then those of pictures, which are never compared with clips.

    Better is what has the higher aesthetic score (paper section 4.4) where all have one, else the higher `quality_heuristic`;
    ties go to the smaller clip_id.
    """
    for kind in ("video", "image"):
        chosen = [i for i, row in enumerate(rows) if row["outcome"] == "kept" and row["kind"] == kind]
        scored = all(rows[i].get("aesthetic") is not None for i in chosen)
        name = "aesthetic" if scored else "quality_heuristic"
        yield sorted(chosen, key=lambda i: (-rows[i][name], rows[i]["clip_id"]))
