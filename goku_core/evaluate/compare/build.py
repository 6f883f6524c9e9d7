"""The page of two models: the table of differences, and their samples of the same seeds beside each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from goku_core.evaluate.compare.comparison import Comparison, Row
from goku_core.evaluate.page.build import beside_page, facts
from goku_core.evaluate.page.folder import Evaluation
from goku_core.evaluate.page.rows import chunks, sample_rows
from goku_core.evaluate.page.tables import number
from goku_core.report.template import rendered


def write_comparison(comparison: Comparison, first: Evaluation, second: Evaluation, page: Path) -> Path:
    """Writes the page. It refers to the samples where they lie: keep both folders where they are, seen from it."""
    rows = pair_rows(comparison, first, second, page.parent)
    view: dict[str, Any] = {
        "names": comparison.names,
        "mode": comparison.mode,
        "warnings": comparison.warnings,
        "rows": [row_view(row) for row in comparison.rows],
        "facts": list(zip(comparison.names, (facts(first), facts(second)), strict=True)),
        "choices": {
            "task": list(dict.fromkeys(row["task"] for row in rows)),
            "dimension": sorted(
                {entry["dimension"] for row in rows for side in row["sides"] for entry in side["said"]}
            ),
        },
        "count": len(rows),
        "names_json": chunks([list(comparison.names)])[0],
        "chunks": chunks(rows),
        "media_script": beside_page("media.js"),
        "evaluation_style": beside_page("style.css"),
    }
    page.parent.mkdir(parents=True, exist_ok=True)
    draft = page.with_name(f".{page.name}.draft")
    draft.write_text(rendered(Path(__file__).parent, view, {}), encoding="utf-8")
    draft.replace(page)
    return page


def pair_rows(comparison: Comparison, first: Evaluation, second: Evaluation, place: Path) -> list[dict[str, Any]]:
    """One entry per sample that both have, with both sides and what turned. place: the folder of the page."""
    sides = []
    for evaluation in (first, second):
        base = Path(os.path.relpath(evaluation.folder.resolve(), place.resolve())).as_posix() + "/"
        sides.append({row["id"]: row for row in sample_rows(evaluation, base)})
    pairs = []
    for name, one in sides[0].items():
        other = sides[1].get(name)
        if other is None or other["prompt"] != one["prompt"]:
            continue
        kept = ("id", "benchmark", "task", "prompt")
        pairs.append({key: one[key] for key in kept} | {"sides": [_side(one), _side(other)]})
        if name in comparison.turns:
            pairs[-1]["turned"] = dict(comparison.turns[name])
    return pairs


def _side(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("file", "moving", "tile", "seed", "asked", "said") if key in row} | {
        "prompt": row["prompt"]
    }


def row_view(row: Row) -> dict[str, Any]:
    """A line in words: both numbers, the difference with its interval, what could have been found."""
    cells = {"first": "–", "second": "–", "difference": "–", "interval": "", "detectable": ""}
    if row.compared is not None:
        cells["first"], cells["second"] = (number(v, row.unit) for v in (row.compared.first, row.compared.second))
        found = row.compared.difference
        if found is not None:
            cells["difference"] = signed(found.value, row.unit)
            cells["interval"] = f"{signed(found.low, row.unit)} to {signed(found.high, row.unit)}"
            cells["detectable"] = "" if found.detectable is None else number(found.detectable, row.unit)
        else:
            cells["difference"] = signed(row.compared.second - row.compared.first, row.unit)
    counts = f"{row.worse} of {row.judged}", f"{row.better} of {row.judged}"
    return cells | {
        "benchmark": row.benchmark,
        "name": row.name,
        "words": row.words,
        "told": row.told,
        "finding": row.compared is not None and row.words in ("better", "worse"),
        "worse": counts[0] if row.judged else "",
        "better": counts[1] if row.judged else "",
        "total": row.total,
    }


def signed(value: float, unit: str) -> str:
    return ("+" if value >= 0 else "−") + number(abs(value), unit)
