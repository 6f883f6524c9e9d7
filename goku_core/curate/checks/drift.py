"""How far the kept clips of a version lie from those of the version before: total variation distance, column by column.

0: the same distribution; 1: nothing in common. Labels are compared as they are, scores in the ten bins that hold a tenth of
the earlier version each, so that the distance does not depend on a score's unit. What is compared is what a model would be
trained on: kept rows only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from goku_core.pipeline.commit import Workspace

LABELS = ("kind", "tier", "caption_source", "primary", "label")
SCORES = (
    *("seconds", "motion", "ocr_coverage", "quality_heuristic"),
    *("aesthetic", "nsfw", "watermark", "motion_raft", "label_score"),
)
BINS = 10
MOST_IDS = 5
STAGE, TABLE = "curate", "data/clips.parquet"
SHARED = 0.1  # of the smaller one's sources: with less in common it is another collection, not the version before


@dataclass(frozen=True)
class Distance:
    """Of one column.

    grown   the label or bin that gained most
    clips   some of its clips in the later version
    """

    column: str
    distance: float
    grown: str
    clips: tuple[str, ...]


def distances(before: pa.Table, after: pa.Table) -> list[Distance]:
    """Of all columns that both tables have and use; largest first."""
    before, after = _kept(before), _kept(after)
    if not before.num_rows or not after.num_rows:
        return []
    found = []
    for names, place in ((LABELS, _labels), (SCORES, _bins)):
        for name in names:
            if all(name in t.column_names and t[name].null_count < t.num_rows for t in (before, after)):
                found.append(_distance(name, *place(before[name], after[name]), after["clip_id"]))
    return sorted(found, key=lambda one: (-one.distance, one.column))


def previous(workspace: Path, fingerprint: str, media: set[str], min_rows: int) -> tuple[str, pa.Table] | None:
    """(fingerprint, table) of the newest other version whose sources are partly ``media``; None where there is none.

    Versions with fewer kept clips than ``min_rows`` are no measure.
    """
    with Workspace(workspace) as place:
        for record in reversed(list(place.records())):
            if record.stage != STAGE or record.fingerprint == fingerprint or TABLE not in record.outputs:
                continue
            digest = record.outputs[TABLE].digest
            if not place.store.holds(digest):
                continue
            table = pq.read_table(place.store.place(digest))
            sources = set(pc.unique(table["media_id"]).to_pylist())
            if len(sources & media) < SHARED * min(len(sources), len(media)):
                continue
            return (record.fingerprint, table) if _kept(table).num_rows >= min_rows else None
    return None


def _kept(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["outcome"], "kept"))


def _labels(before: pa.ChunkedArray, after: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    a, b = (["" if value is None else str(value) for value in column.to_pylist()] for column in (before, after))
    names = sorted({*a, *b})
    place = {name: index for index, name in enumerate(names)}
    return np.array([place[x] for x in a]), np.array([place[x] for x in b]), names


def _bins(before: pa.ChunkedArray, after: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Null (a picture's motion) is a bin of its own."""
    a, b = (column.to_numpy(zero_copy_only=False).astype(np.float64) for column in (before, after))
    edges = np.unique(np.quantile(a[~np.isnan(a)], np.linspace(0, 1, BINS + 1)[1:-1]))
    names = [f"up to {edge:.4g}" for edge in edges] + [f"above {edges[-1]:.4g}", "none"]
    place = [np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x, side="left")) for x in (a, b)]
    return place[0], place[1], names


def _distance(name: str, a: np.ndarray, b: np.ndarray, names: list[str], clips: pa.ChunkedArray) -> Distance:
    shares = [np.bincount(x, minlength=len(names)) / len(x) for x in (a, b)]
    gain = shares[1] - shares[0]
    grown = int(gain.argmax())
    ids = clips.take(pa.array(np.flatnonzero(b == grown)[:MOST_IDS])).to_pylist()
    return Distance(name, float(np.abs(gain).sum() / 2), names[grown], tuple(ids))
