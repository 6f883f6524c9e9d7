"""The line's scores as MLflow and Prefect show them: metrics with interval bounds, tags, rows, a few pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goku_core.evaluate.page.tables import interval, number, said, tables_of_line

EXAMPLES, PICTURE_BYTES = 8, 64_000
"""Artifacts lie in a database: small pictures, and few."""


def metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """evaluate/NAME with _low and _high of its 95 % interval, and _chance where it is known; the judge's own share."""
    named = {"overall": summary["overall"], **summary["tasks"]}
    for benchmark, dimensions in summary["clips"].items():
        named |= {f"{benchmark}_{name}": found for name, found in dimensions.items() if isinstance(found, Mapping)}
    figures = {"evaluate/judge": float(summary["judge"]["ground_truth"]["overall"])}
    for name, found in named.items():
        low, high = found["interval"]
        figures[f"evaluate/{name}"] = float(found["score"])
        figures |= {f"evaluate/{name}_low": float(low), f"evaluate/{name}_high": float(high)}
        if found.get("chance") is not None:
            figures[f"evaluate/{name}_chance"] = float(found["chance"])
    return figures


def tags(summary: Mapping[str, Any]) -> dict[str, str]:
    """What must be known beside the number: its interval, who judged, and the protocol that makes it comparable."""
    low, high = summary["overall"]["interval"]
    return {
        "evaluate.overall": f"{summary['overall']['score']:.6f}",
        "evaluate.interval": f"{low:.6f} {high:.6f}",
        "evaluate.judge": str(summary["judge"]["fingerprint"]),
        "evaluate.protocol": str(summary["protocol"]),
    }


def score_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per line of the line's tables, the totals last in each."""
    rows = []
    for table in tables_of_line(summary):
        for line in (*table.lines, table.total):
            row = {"benchmark": table.benchmark, "line": line.name}
            row["score"] = number(line.score.value, line.unit) if line.score and said(line.score) else line.lacks
            row["95 % interval"] = interval(line)
            row["chance"] = number(line.more["chance"], line.unit) if "chance" in line.more else ""
            rows.append(row | {"records": line.have})
    return rows


def examples(summary: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The first picture of each task, then the second, at most eight: file, prompt, right or wrong and why.

    Not chosen by their verdicts.
    """
    import pyarrow.parquet as pq

    columns = ["sample_id", "dimension", "verdict", "reason"]
    rows = pq.read_table(folder / "records.parquet", columns=columns).to_pylist()
    verdicts = {row["sample_id"]: row for row in rows if row["dimension"] == "geneval"}
    by_task: dict[str, list[dict[str, Any]]] = {}
    for shown in summary["singles"]:
        by_task.setdefault(shown["task"], []).append(shown)
    order = [group[turn] for turn in range(2) for group in by_task.values() if len(group) > turn]
    found = []
    for shown in order:
        file, row = folder / shown["file"], verdicts.get(shown["sample"])
        if row is not None and file.is_file() and file.stat().st_size <= PICTURE_BYTES:
            entry = {"file": file, "prompt": shown["prompt"], "right": bool(row["verdict"]), "reason": row["reason"]}
            found.append(entry)
    return found[:EXAMPLES]
