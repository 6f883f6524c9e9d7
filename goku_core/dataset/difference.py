"""What changed between two versions, clip by clip, and what made it change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from goku_core.dataset.versions import Version

VERDICT = ("outcome", "filter", "tier", "score", "threshold", "message", "uri")
# Compared by content only, and never shown.
PAYLOAD = ("signature", "clip_embedding")
Row = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """From version A to version B.

    added, removed   rows of clips that only B, only A has
    changed          (row of A, row of B) of clips whose outcome, filter or tier is another
    columns          column -> number of clips in both whose value differs (all columns, verdicts too)
    schema           columns that only one of the tables has
    parameters       key of `curate` -> (value of A, value of B)
    causes           what else differs: inputs, revision, seed
    """

    added: list[Row]
    removed: list[Row]
    changed: list[tuple[Row, Row]]
    columns: dict[str, int]
    schema: dict[str, str]
    parameters: dict[str, tuple[Any, Any]]
    causes: list[str]

    def transitions(self) -> dict[str, int]:
        """ "kept -> rejected: ocr_coverage" -> clips."""
        found = Counter(f"{said(before)} -> {said(after)}" for before, after in self.changed)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def as_json(self, examples: int) -> dict[str, Any]:
        def rows(some: list[Row]) -> dict[str, Any]:
            by = Counter(said(row) for row in some)
            shown = [{"clip_id": row["clip_id"], "uri": row["uri"], "is": said(row)} for row in some[:examples]]
            return {"count": len(some), "by": dict(sorted(by.items())), "examples": shown}

        changed = [
            {
                "clip_id": b["clip_id"],
                "uri": b["uri"],
                "from": said(a),
                "to": said(b),
                "why": b["message"] or a["message"],
            }
            for a, b in self.changed[:examples]
        ]
        return {
            "added": rows(self.added),
            "removed": rows(self.removed),
            "changed": {"count": len(self.changed), "by": self.transitions(), "examples": changed},
            "columns": self.columns,
            "schema": self.schema,
            "parameters": {key: {"a": a, "b": b} for key, (a, b) in self.parameters.items()},
            "causes": self.causes,
        }


def compare(first: Version, second: Version) -> Difference:
    """Raises `GokuError` where the table of one of them is gone."""
    a, b = first.table(), second.table()
    columns, rows_a, rows_b = _columns(a, b), _rows(a), _rows(b)
    shared = [name for name in rows_a if name in rows_b]
    pairs = [(rows_a[name], rows_b[name]) for name in shared]
    return Difference(
        added=[row for name, row in rows_b.items() if name not in rows_a],
        removed=[row for name, row in rows_a.items() if name not in rows_b],
        changed=[(x, y) for x, y in pairs if (said(x), x["tier"]) != (said(y), y["tier"])],
        columns={name: count for name in columns if (count := _differing(a, b, name, shared))},
        schema=_only_in_one(a, b),
        parameters=parameters(first.request, second.request),
        causes=_causes(first, second),
    )


def said(row: Mapping[str, Any]) -> str:
    """ "kept (720p)", "rejected: ocr_coverage", "failed: truncated"."""
    return f"kept ({row['tier']})" if row["outcome"] == "kept" else f"{row['outcome']}: {row['filter']}"


def _rows(table: pa.Table) -> dict[str, Row]:
    rows = table.select(["clip_id", *VERDICT]).to_pylist()
    return {row["clip_id"]: row for row in rows}


def _columns(a: pa.Table, b: pa.Table) -> list[str]:
    return [name for name in b.column_names if name in a.column_names and name != "clip_id"]


def _differing(a: pa.Table, b: pa.Table, name: str, shared: list[str]) -> int:
    values = []
    for table in (a, b):
        place = {clip: index for index, clip in enumerate(table["clip_id"].to_pylist())}
        values.append(table[name].take(pa.array([place[clip] for clip in shared], pa.int64())).to_pylist())
    return sum(x != y and not (x != x and y != y) for x, y in zip(*values, strict=True))


def _only_in_one(a: pa.Table, b: pa.Table) -> dict[str, str]:
    only_a = dict.fromkeys((name for name in a.column_names if name not in b.column_names), "only in A")
    return only_a | dict.fromkeys((name for name in b.column_names if name not in a.column_names), "only in B")


def parameters(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    flat_a, flat_b = dict(_leaves(a)), dict(_leaves(b))
    names = sorted(flat_a.keys() | flat_b.keys())
    return {name: (flat_a.get(name), flat_b.get(name)) for name in names if flat_a.get(name) != flat_b.get(name)}


def _leaves(value: Mapping[str, Any], before: str = "") -> Any:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}", inner


def _causes(first: Version, second: Version) -> list[str]:
    a, b = first.record.value, second.record.value
    found = []
    for path in sorted(a["inputs"].keys() | b["inputs"].keys()):
        before, after = (one["inputs"].get(path, {}).get("digest") for one in (a, b))
        if before != after:
            found.append(f"input {path}: {str(before)[:12]} -> {str(after)[:12]}")
    for what in ("revision", "seed"):
        if a[what] != b[what]:
            found.append(f"{what} of curate: {a[what]} -> {b[what]}")
    if a["code"] != b["code"]:
        found.append("code of curate has changed in between")
    return found
