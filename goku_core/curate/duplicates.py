"""Near-duplicates among all kept clips, within and across sources: of a group that looks alike the best one stays.

The paper looks within one source and keeps the clip with the higher aesthetic score (section 4.4). Here also across
sources, since copies of one film come under many names, and by `quality_heuristic`; ties go to the smaller clip_id.
Clips and pictures are compared among themselves only. All pairs are compared: 10,000 clips take about 20 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from goku_core.curate.gate import Verdict
from goku_core.curate.request import Dedup
from goku_core.curate.scores.resemblance import color_distance, hash_distance

LOOKS_LIKE = "looks like "  # begins the message; the clip that stays follows


@dataclass(frozen=True)
class Duplicate:
    """``row`` (position in the table) goes, because it resembles a better one."""

    row: int
    verdict: Verdict


def find(rows: Sequence[dict[str, Any]], bounds: Dedup) -> list[Duplicate]:
    """Rows that go, in order of position. rows: those of the survey; only kept ones are looked at."""
    if bounds.max_hamming < 0:
        return []
    found: list[Duplicate] = []
    for kind in ("video", "image"):
        chosen = [i for i, row in enumerate(rows) if row["outcome"] == "kept" and row["kind"] == kind]
        # Best first: a clip is compared with those that stay only, so nothing goes because of one that went itself.
        chosen.sort(key=lambda i: (-rows[i]["quality_heuristic"], rows[i]["clip_id"]))
        found += _among(chosen, rows, bounds)
    return sorted(found, key=lambda duplicate: duplicate.row)


def _among(ranked: list[int], rows: Sequence[dict[str, Any]], bounds: Dedup) -> list[Duplicate]:
    if not ranked:
        return []
    signatures = np.stack([np.frombuffer(rows[i]["signature"], np.uint8) for i in ranked])
    staying: list[int] = []  # positions in ``ranked``
    found: list[Duplicate] = []
    for position, row in enumerate(ranked):
        near = color_distance(signatures[staying], signatures[position]) <= bounds.max_color if staying else []
        for candidate in np.flatnonzero(near):
            better = rows[ranked[staying[candidate]]]
            bits = hash_distance(better["phash"], rows[row]["phash"])
            if bits <= bounds.max_hamming:
                text = f"{LOOKS_LIKE}{better['clip_id']}, which is at least as good ({bits} of 64 bits differ)"
                found.append(Duplicate(row, Verdict("near_duplicate", float(bits), float(bounds.max_hamming), text)))
                break
        else:
            staying.append(position)
    return found
