"""What stands beside our numbers: rows that others published, and how far each dimension moves VBench's total."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goku_core.evaluate.page.tables import said
from goku_core.evaluate.tables import Table

MOVES = "moves_total"
"""Line.more: points by which the total moves for +1 raw percentage point of this line."""
LABELS = {"rewritten": "prompts rewritten"}


@dataclass(frozen=True)
class Published:
    """One model's row as somebody printed it.

    values      by line name, in the unit of our tables
    label       what must be said with it; source: where it is printed
    in_percent  it was printed as 0 to 100
    """

    name: str
    values: Mapping[str, float]
    source: str
    label: str = ""
    in_percent: bool = False


def published_rows(benchmark: str) -> list[Published]:
    """The rows known of a benchmark; none where nothing is."""
    from goku_core.evaluate import published

    if benchmark not in published.benchmarks():
        return []
    return [
        Published(
            row.model,
            {name: row.share(name) for name in row.values},
            row.source.title,
            ", ".join(word for word in (LABELS.get(row.label, row.label), row.series, row.note) if word),
            row.unit == "percent",
        )
        for row in published.rows(benchmark)
    ]


def doubtful(benchmark: str) -> list[str]:
    """Published rows whose numbers do not belong together, in words: nothing is mended, and nothing kept quiet."""
    from goku_core.evaluate import published

    return [doubt.words() for doubt in published.doubts(benchmark)] if benchmark in published.benchmarks() else []


def model_rows(tables: Sequence[Table], published: Sequence[Published]) -> dict[str, Any] | None:
    """Our row in every mode and the published ones over the same columns, the total first, in the published unit.

    None where no published row has a line of ours.
    """
    lines = [tables[0].total, *tables[0].lines]
    columns = [line.name for line in lines if any(line.name in row.values for row in published)]
    if not columns:
        return None
    in_percent = any(row.in_percent for row in published)
    factor, digits = (100.0, 2) if in_percent else (1.0, 3)

    def cells(values: Mapping[str, float]) -> list[str]:
        return [f"{values[c] * factor:.{digits}f}" if c in values else "–" for c in columns]

    rows = []
    for table in tables:
        scored = [line for line in (table.total, *table.lines) if line.score is not None and said(line.score)]
        ours = cells({line.name: line.score.value for line in scored if line.score})
        rows.append({"name": f"this evaluation, {table.mode}", "cells": ours, "label": "", "source": "", "ours": True})
    rows += [
        {"name": row.name, "cells": cells(row.values), "label": row.label, "source": row.source, "ours": False}
        for row in published
    ]
    return {"columns": columns, "rows": rows, "unit": "in percent" if in_percent else "as printed"}


def sensitivity(table: Table) -> list[dict[str, Any]]:
    """Dimensions by how far one raw point (of 100) moves the total, in points; empty where all move it alike or none does."""
    moves = [(line.name, line.more[MOVES]) for line in table.lines if MOVES in line.more]
    moves.sort(key=lambda item: (-item[1], item[0]))
    if not moves or moves[0][1] <= 0 or math.isclose(moves[0][1], moves[-1][1]):
        return []
    return [{"name": name, "moves": value, "share": 100 * value / moves[0][1]} for name, value in moves]
