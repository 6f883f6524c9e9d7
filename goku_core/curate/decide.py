"""Which measured clips are kept: a pure function of the table and the request. No file is opened.

`curate` decides with it, and `goku curate --what-if` asks it again about the published table, which for that reason keeps
every column that is needed here, the signature too. What decided before (gate, damage, shots, length) stays as it is:
those rows were never measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from goku_core.curate import tiers
from goku_core.curate.duplicates import near, semantic
from goku_core.curate.gate import Verdict
from goku_core.curate.request import Request

# In this order. A row that one of these rejected was measured, and can be decided anew.
FILTERS = (
    *("nsfw", "watermark", "quality_heuristic", "tier_side", "ocr_coverage", "aesthetic", "motion_unmeasured"),
    *("motion_low", "motion_high"),
    *("near_duplicate", "semantic_duplicate"),
    "balance",  # not decided here, but after it, by `taxonomy.balance`: it counts what is left
)
Row = dict[str, Any]


def decide(rows: Sequence[Mapping[str, Any]], request: Request) -> list[Row]:
    """Rows with tier and verdict, in the same order; the given ones are left as they are.

    rows: as in `table.SCHEMA`, decided or not; scores as the table stores them (float32), so that the answer from a table
    is that of the run that wrote it.
    """
    decided = [_undecided(row) for row in rows]
    for index, row in enumerate(decided):
        if row["outcome"] == "kept":
            tier = tiers.assign(row, request)
            decided[index] = rejected(row, tier) if isinstance(tier, Verdict) else row | {"tier": tier}
    for duplicate in near.find(decided, request.dedup):
        decided[duplicate.row] = rejected(decided[duplicate.row], duplicate.verdict)
    for duplicate in semantic.find(decided, request.dedup.semantic):
        decided[duplicate.row] = rejected(decided[duplicate.row], duplicate.verdict)
    return decided


def measured(row: Mapping[str, Any]) -> bool:
    """Whether the row has scores: it was not stopped before, and nothing broke."""
    return row["outcome"] == "kept" or (row["outcome"] == "rejected" and row["filter"] in FILTERS)


def rejected(row: Mapping[str, Any], verdict: Verdict) -> Row:
    """The row with a verdict against it."""
    return dict(row) | {
        "outcome": "rejected",
        "tier": None,
        "filter": verdict.filter,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "message": verdict.message,
    }


def _undecided(row: Mapping[str, Any]) -> Row:
    if not measured(row):
        return dict(row)
    return dict(row) | {"outcome": "kept"} | dict.fromkeys(("tier", "filter", "score", "threshold", "message"))
