"""reports/curation/validation.html: the expectations for people. One file, no network, no dates.

Not Great Expectations' own Data Docs: those load style and scripts from other people's servers and carry the time of the run,
so that they would be unreadable offline and another file every time.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;
vertical-align:top}td{overflow-wrap:anywhere}.no td:first-child{color:#b00020;font-weight:600}.yes td:first-child{color:#1a7f37}
code{font-size:.9em}@media(prefers-color-scheme:dark){body{background:#14171a;color:#e6e6e6}th,td{border-color:#3a3f45}}
"""


def write_validation_page(source: Path, target: Path) -> None:
    """source: validation.json. Failed expectations stand first."""
    found = json.loads(source.read_text(encoding="utf-8"))
    results = sorted(found["results"], key=lambda result: result["success"])
    state = "all met" if found["success"] else f"{found['failed']} not met"
    body = [
        f"<h1>Validation of the curated clips</h1><p>{found['expectations']} expectations, {state}. "
        "Checked by Great Expectations before publication; a version that fails is not published.</p>",
        "<h2>Rows through the steps</h2>",
        _table(
            ["step", "came in", "rows", "kept", "rejected", "failed", "lost", "not from there", "named twice"],
            [
                [step[k] for k in ("step", "came", "rows", "kept", "rejected", "failed", "lost", "strange", "twice")]
                for step in found["steps"]
            ],
        ),
        "<p>Files come into the first step, and each of them leaves at least one row; rows = kept + rejected + failed.</p>",
        "<h2>Expectations</h2>",
        _expectations(results),
    ]
    head = f'<meta charset="utf-8"><title>Validation</title><style>{STYLE}</style>'
    page = f'<!doctype html><html lang="en">{head}{"".join(body)}</html>'
    target.write_text(page + "\n", encoding="utf-8")


def _expectations(results: list[dict[str, Any]]) -> str:
    rows = []
    for result in results:
        state, kind = ("met", "yes") if result["success"] else ("NOT MET", "no")
        arguments = dict(result["arguments"])
        column = arguments.pop("column", "")
        said = ", ".join(f"{name}: {value}" for name, value in sorted(arguments.items()))
        cells = (state, _words(result["expectation"]), column, said, result["unexpected"], ", ".join(result["clips"]))
        rows.append(f'<tr class="{kind}">{"".join(f"<td>{escape(str(cell))}</td>" for cell in cells)}</tr>')
    head = "".join(f"<th>{name}</th>" for name in ("", "expectation", "column", "with", "rows against it", "clips"))
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _words(name: str) -> str:
    return name.removeprefix("expect_").replace("_", " ")


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = ["".join(f"<th>{escape(name)}</th>" for name in head)]
    lines += ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
