"""Builds evaluation.html from manifest, records, tables and samples. The same inputs give the same bytes.

The page refers to the pictures and clips in the folder beside it; send both together. Everything else is in the one file,
and nothing is asked of any server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from goku_core.evaluate.page.bars import Bar, Tick, bars
from goku_core.evaluate.page.beside import Published, doubtful, model_rows, published_rows, sensitivity
from goku_core.evaluate.page.folder import Evaluation, opened
from goku_core.evaluate.page.rows import chunks, sample_rows, words_of
from goku_core.evaluate.page.tables import gaps, interval, number, said, tables_of
from goku_core.evaluate.records import Record
from goku_core.evaluate.tables import Line, Table
from goku_core.report.template import rendered

PAGE = "evaluation.html"
SHARES = "share"
MOST_FAILURES = 12  # messages shown of samples that could not be judged


def write_page(evaluation: Evaluation, tables: Sequence[Table], page: Path | None = None) -> Path:
    """Writes evaluation.html into the evaluation's folder (or `page`, a file in it) and returns its path."""
    page = page or evaluation.folder / PAGE
    rows = sample_rows(evaluation)
    # the line's prompts are those of its own corpus: nobody's published row is about them
    beside = {} if evaluation.summary else {name: published_rows(name) for name in evaluation.benchmarks}
    view: dict[str, Any] = {
        "title": evaluation.suite.get("suite") or ", ".join(dict.fromkeys(table.benchmark for table in tables)),
        "benchmarks": [
            benchmark_view(name, [table for table in tables if table.benchmark == name], beside.get(name, []))
            for name in dict.fromkeys(table.benchmark for table in tables)
        ],
        "gaps": gaps(evaluation),
        "left_out": dict(sorted(evaluation.stamp.get("left_out", {}).items())),
        "unjudged": evaluation.stamp.get("unjudged", [])[:MOST_FAILURES],
        "unjudged_count": len(evaluation.stamp.get("unjudged", [])),
        "folder": evaluation.folder.name,
        "facts": facts(evaluation),
        "choices": _choices(rows),
        "count": len(rows),
        "chunks": chunks(rows),
        "media_script": beside_page("media.js"),
        "evaluation_style": beside_page("style.css"),
    }
    draft = page.with_name(f".{page.name}.draft")
    draft.write_text(rendered(Path(__file__).parent, view, {}), encoding="utf-8")
    draft.replace(page)
    return page


def write_line_page(folder: Path) -> Path:
    """The page of the line's own evaluation, whose scores stand in its summary.json."""
    evaluation = opened(folder)
    return write_page(evaluation, tables_of(evaluation, None, resamples=0, seed=0))


def beside_page(name: str) -> Markup:
    """media.js, which draws samples with their boxes, or style.css: for this page and the one of two models."""
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))


def benchmark_view(name: str, tables: Sequence[Table], published: Sequence[Published]) -> dict[str, Any]:
    """One section: a row per line with its score in every mode, the notes, published rows, what moves the total."""
    lines = list(dict.fromkeys(line.name for table in tables for line in table.lines))
    by_mode = {table.mode: {line.name: line for line in table.lines} for table in tables}
    totals = {table.mode: table.total for table in tables}
    headline = tables[0].total
    rows = [_row(line, {m: found[line] for m, found in by_mode.items() if line in found}, published) for line in lines]
    rows.append(_row(headline.name, totals, published) | {"total": True})
    return {
        "name": name,
        "modes": [table.mode for table in tables],
        "rows": rows,
        "headline": rows[-1],
        "notes": list(dict.fromkeys(note for table in tables for note in table.notes)),
        "chance": any(row["chance"] for row in rows),
        "differ": _differences({mode: {**by_mode[mode], totals[mode].name: totals[mode]} for mode in by_mode}),
        "published": model_rows(tables, published),
        "doubtful": doubtful(name) if published else [],
        "sensitivity": sensitivity(tables[0]),
    }


def _row(name: str, cells: dict[str, Line], published: Sequence[Published]) -> dict[str, Any]:
    first = next(iter(cells.values()))
    scored = {mode: line for mode, line in cells.items() if said(line.score)}
    chance = first.more.get("chance")
    ticks = [Tick(row.name, row.values[name]) for row in published if name in row.values]
    places = {mode: place for place, mode in enumerate(cells)}
    scores = {mode: line.score for mode, line in scored.items() if line.score}
    drawn = [Bar(mode, places[mode], score.value, score.low, score.high) for mode, score in scores.items()]
    if first.unit == SHARES:
        top, ticks = 1.0, [tick for tick in ticks if tick.value <= 1.0]
    else:
        top = 1.1 * max([bar.high or bar.value for bar in drawn] + [tick.value for tick in ticks], default=0.0)
    return {
        "name": name,
        "cells": {mode: _cell(line) for mode, line in cells.items()},
        "have": max(line.have for line in cells.values()),
        "want": max(line.want for line in cells.values()),
        "lacks": first.lacks if not scored else "",
        "chance": None if chance is None else number(chance, first.unit),
        "bars": bars(drawn, top, chance, ticks),
        "total": False,
    }


def _cell(line: Line) -> dict[str, str]:
    if line.score is None or not said(line.score):
        return {"value": "–", "interval": line.lacks}
    return {"value": number(line.score.value, line.unit), "interval": interval(line)}


def _differences(by_mode: dict[str, dict[str, Line]]) -> list[str]:
    """Lines whose two modes are not the same number as they are printed, in words."""
    if len(by_mode) < 2:
        return []
    (first, here), (second, there) = list(by_mode.items())[:2]
    words = []
    for name in here:
        if name not in there:
            continue
        one, other = here[name], there[name]
        if one.score is None or other.score is None:
            continue
        left, right = number(one.score.value, one.unit), number(other.score.value, other.unit)
        if left == right:
            continue
        words.append(f"{name.replace('_', ' ')}: {left} {first}, {right} {second}")
    return words


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What the numbers rest on: counts, models, how samples were drawn, who judged, on what machine."""
    drawings = dict.fromkeys(sample.drawing for sample in evaluation.samples)
    found: list[tuple[str, str]] = [
        ("prompts", str(len({sample.prompt.prompt_id for sample in evaluation.samples}))),
        ("samples planned", str(len(evaluation.samples))),
        ("samples in the folder", str(sum(sample.sample_id in evaluation.media for sample in evaluation.samples))),
        ("records", str(len(evaluation.records))),
    ]
    for drawing in drawings:
        given = {name: value for name, value in vars(drawing).items() if value not in (None, "")}
        words = ", ".join(f"{name} {value}" for name, value in given.items() if name not in ("model", "rewriting"))
        found.append(("drawn with", words or "not recorded"))
        found += [("model", drawing.model)] if drawing.model else []
        found += [("prompts rewritten by", drawing.rewriting)] if drawing.rewriting else []
    found += [("judge", judge) for judge in evaluation.judges]
    of_sets = [record for record in evaluation.records if record.sample_id.endswith("-set-0")]
    found += [(f"{record.dimension} measured with", ", ".join(_setting(record))) for record in of_sets]
    found += [(key, text) for key, value in sorted(evaluation.environment.items()) if (text := _plain(value))]
    found += [("licence of the prompts", str(evaluation.suite["licence"]))] if evaluation.suite.get("licence") else []
    return list(dict.fromkeys(found))


def _setting(record: Record) -> list[str]:
    """What a number of a whole set depends on: it compares only with one of the same."""
    seen = json.loads(record.evidence or "{}")
    return words_of(seen) or ["not recorded"]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _choices(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    dimensions = [entry["dimension"] for row in rows for entry in row["said"]]
    dimensions += [name for row in rows for name in row.get("lacking", ())]
    return {
        "benchmark": list(dict.fromkeys(row["benchmark"] for row in rows)),
        "task": list(dict.fromkeys(row["task"] for row in rows)),
        "dimension": sorted(set(dimensions)),
    }
