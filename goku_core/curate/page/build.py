"""Builds reports/curation.html from the table, the examples and the summary.

The page refers to pictures and clips in the folder `reports/curation` beside it; send both together. Everything else is in
the one file, and nothing is asked of any server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from goku_core.curate.page.measures import Measure, Row, measures, values
from goku_core.curate.request import Request
from goku_core.report.histogram import histogram
from goku_core.report.template import rendered

FOLDER = "curation"  # of pictures and clips, beside the page
DIGEST = re.compile(r"[0-9a-f]{64}")  # shown by its first digits
MOST_FAILURES = 12  # messages shown per error class


def write_page(rows: Sequence[Row], request: Request, examples: list[dict[str, Any]], funnel: Path, page: Path) -> None:
    """rows: those of clips.parquet; examples: what the gallery wrote; funnel: the summary's file."""
    summary = json.loads(funnel.read_text(encoding="utf-8"))
    shown = [example | {"file": f"{FOLDER}/{example['file']}"} for example in examples]
    playing = [example for example in shown if example["role"] == "clip"]
    view: dict[str, Any] = {
        "total": summary["total"],
        "kinds": summary["kinds"],
        "steps": _steps(rows, summary),
        "kept": [example for example in shown if example["role"] == "kept"],
        "gone": [example for example in shown if example["role"] == "rejected"],
        "measures": [_measured(measure, rows, shown) for measure in measures(request)],
        "pairs": [example | {"twin": _placed(example["twin"])} for example in shown if example["role"] == "pair"],
        "failures": _failures(rows),
        "taxonomy": summary.get("taxonomy"),
        "left_out": summary.get("left_out", {}),
        "clips": playing,
        "data": _as_script(playing),
        "choices": _choices(playing),
    }
    filters = {"short": lambda text: DIGEST.sub(lambda found: found[0][:12] + "…", text or "")}
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(rendered(Path(__file__).parent, view, filters), encoding="utf-8")


def _placed(example: dict[str, Any]) -> dict[str, Any]:
    return example | {"file": f"{FOLDER}/{example['file']}"}


def _steps(rows: Sequence[Row], summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The funnel: after each filter, how many rows and how many seconds of footage are left."""
    seconds_of = {
        key: sum(row["seconds"] or 0.0 for row in rows if row["kind"] == "video" and _end(row) == key)
        for key in {_end(row) for row in rows}
    }
    left, footage = len(rows), sum(seconds_of.values())
    steps = [{"name": "candidates", "left": left, "seconds": footage, "gone": 0, "outcome": "kept", "example": ""}]
    # What failed never reached a filter.
    for why in sorted(summary["why"], key=lambda entry: entry["outcome"] != "failed"):
        left -= why["count"]
        footage -= seconds_of[why["outcome"], why["filter"]]
        steps.append(
            {
                "name": why["filter"],
                "left": left,
                "seconds": max(0.0, footage),
                "gone": why["count"],
                "outcome": why["outcome"],
                "example": why["example"],
            }
        )
    return steps


def _end(row: Row) -> tuple[str, str | None]:
    return row["outcome"], row["filter"]


def _measured(measure: Measure, rows: Sequence[Row], shown: list[dict[str, Any]]) -> dict[str, Any]:
    kept, gone = values(rows, measure)
    near = [example for example in shown if example["role"] == "near" and example["measure"] == measure.column]
    return {
        "name": measure.column,
        "title": measure.title,
        "unit": measure.unit,
        "of": measure.of,
        "count": len(kept) + len(gone),
        "chart": histogram(kept, gone, measure.lines, f"{measure.title}, {measure.unit}", measure.log),
        "kept": [example for example in near if example["outcome"] == "kept"],
        "gone": [example for example in near if example["outcome"] != "kept"],
    }


def _failures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["outcome"] == "failed":
            groups.setdefault(row["filter"], []).append(row)
    return [
        {"name": name, "count": len(group), "rows": group[:MOST_FAILURES], "more": max(0, len(group) - MOST_FAILURES)}
        for name, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


SCORES = ("motion", "ocr_coverage", "quality_heuristic", "aesthetic", "sharpness", "seconds")


def _as_script(clips: list[dict[str, Any]]) -> Markup:
    """The gallery's rows as JSON inside a script element: "</" must not end it."""
    fields = ("clip_id", "outcome", "filter", "primary", "label", "tier", *SCORES)
    data = [{name: clip.get(name) for name in fields} for clip in clips]
    return Markup(json.dumps(data, sort_keys=True).replace("</", "<\\/"))


def _choices(clips: list[dict[str, Any]]) -> dict[str, Any]:
    def found(name: str) -> list[str]:
        return sorted({str(clip[name]) for clip in clips if clip.get(name)})

    scores = [name for name in SCORES if any(clip.get(name) is not None for clip in clips)]
    return {"outcomes": found("outcome"), "filters": found("filter"), "labels": found("label"), "scores": scores}
