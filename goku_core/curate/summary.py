"""reports/curation/funnel.json: how many came in, how many stayed, and why the others went."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from goku_core.curate.request import Request
from goku_core.curate.taxonomy import balance

_LEFT_OUT = {
    "dino_similarity": "paper Table 4 (0.85 / 0.90 / 0.90): needs DINOv2 weights",
    "aesthetic": "paper Table 4 (4.3 / 4.5 / 4.5): needs the LAION aesthetic model; `quality_heuristic` is no stand-in",
    "generated_data": "paper section 4.4: artificial data for rare sub-classes; balance repeats clips, it invents none",
    "nsfw": "paper Figure 2: not described there, needs weights",
    "raft": "paper section 4.5: motion is judged by DIS, whose scores are not RAFT's",
}
ORDER = (
    *("seconds", "side", "kbps", "fps", "interlaced", "hdr", "animated"),
    *("prescreen_black", "prescreen_still", "prescreen_text"),
    *("transition", "clip_seconds", "nsfw", "watermark", "quality_heuristic"),
    *("tier_side", "ocr_coverage", "aesthetic", "motion_unmeasured"),
    *("motion_low", "motion_high"),
    *("near_duplicate", "semantic_duplicate", "balance"),
)


def left_out(request: Request) -> dict[str, str]:
    """Filters of the paper that are off, and why: a scorer is named here until it has weights."""
    on = {*request.models.on, *(["dino_similarity"] if request.refine.kind == "dinov2" else [])}
    return {name: why for name, why in _LEFT_OUT.items() if name not in on}


def write_summary(
    rows: list[dict[str, Any]], sources: int, request: Request, examples: list[dict[str, Any]], path: Path
) -> None:
    """rows: those of clips.parquet; examples: what the gallery wrote."""
    summary = {
        "sources": sources,
        "rows": len(rows),
        "total": _counts(rows),
        "kinds": {kind: _counts([row for row in rows if row["kind"] == kind]) for kind in _kinds(rows)},
        "why": _why(rows),
        "captions": _captions(rows),
        "taxonomy": balance.summary(rows, request),
        "left_out": left_out(request),
        "request": request.model_dump(mode="json"),
        "examples": examples,
    }
    path.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _kinds(rows: list[dict[str, Any]]) -> list[str]:
    return sorted({row["kind"] for row in rows})


def _counts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """in = kept + rejected + failed."""
    outcomes = Counter(row["outcome"] for row in rows)
    kept = [row for row in rows if row["outcome"] == "kept"]
    return {
        "in": len(rows),
        "sources": len({row["media_id"] for row in rows}),
        "kept": outcomes["kept"],
        "rejected": outcomes["rejected"],
        "failed": outcomes["failed"],
        "rejected_by": _by_filter(rows, "rejected"),
        "failed_by": _by_filter(rows, "failed"),
        "tiers": dict(sorted(Counter(row["tier"] for row in kept).items())),
        "captioned": sum(1 for row in kept if row["caption"]),
        "kept_seconds": round(sum(row["seconds"] or 0.0 for row in kept), 3),
    }


def _captions(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of kept rows: who wrote the caption, and what was wrong with those that models wrote."""
    kept = [row for row in rows if row["outcome"] == "kept"]
    problems = [problem for row in kept if row["caption_problem"] for problem in row["caption_problem"].split("; ")]
    kinds = Counter(": ".join(problem.split(": ")[:2]) for problem in problems)
    return {
        "by": dict(sorted(Counter(row["caption_source"] for row in kept).items())),
        "problems": dict(sorted(kinds.items())),
    }


def _by_filter(rows: list[dict[str, Any]], outcome: str) -> dict[str, int]:
    return dict(sorted(Counter(row["filter"] for row in rows if row["outcome"] == outcome).items()))


def _why(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per reason, in the order in which the filters act; with the first message as an example."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["outcome"] != "kept":
            groups.setdefault((row["outcome"], row["filter"]), []).append(row)

    def place(key: tuple[str, str]) -> tuple[bool, int, str]:
        outcome, name = key
        return outcome == "failed", ORDER.index(name) if name in ORDER else len(ORDER), name

    return [
        {
            "outcome": outcome,
            "filter": name,
            "count": len(groups[outcome, name]),
            "example": f"{groups[outcome, name][0]['uri']} {groups[outcome, name][0]['message']}",
        }
        for outcome, name in sorted(groups, key=place)
    ]
