"""What the filters measure: the column of each, its thresholds, and how people call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goku_core.curate.request import Request
from goku_core.report.histogram import Line

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """One number that filters look at.

    column   of clips.parquet
    filters  names in the column `filter` that this number decides
    lines    its thresholds
    log      shown on log(1 + x)
    of       "source": one value per raw file; "clip": one per candidate clip or picture
    """

    column: str
    title: str
    unit: str
    filters: tuple[str, ...]
    lines: tuple[Line, ...]
    log: bool = False
    of: str = "clip"


def measures(request: Request) -> list[Measure]:
    """In the order in which the filters act."""
    gate = request.gate
    tiers = sorted(request.tiers.items(), key=lambda item: item[1].min_side)

    def each(field: str, kind: str) -> tuple[Line, ...]:
        values = [(name, getattr(tier, field, None)) for name, tier in tiers]
        return tuple(Line(float(value), name, kind) for name, value in values if value is not None)

    found = [
        Measure("kbps", "Bit rate", "kbit/s", ("kbps",), (Line(gate.min_kbps, "gate", "least"),), True, "source"),
        Measure("fps", "Frame rate", "frames/s", ("fps",), (Line(gate.min_fps, "gate", "least"),), False, "source"),
        Measure(
            "side",
            "Short side",
            "px",
            ("side", "tier_side"),
            (Line(float(gate.min_side), "gate", "least"), *each("min_side", "least")),
            False,
            "source",
        ),
        Measure(
            "clip_seconds",
            "Length of a clip",
            "s",
            ("clip_seconds",),
            (Line(request.min_clip_seconds, "", "least"), Line(request.max_clip_seconds, "longer are divided", "most")),
        ),
        Measure(
            "quality_heuristic",
            "Quality heuristic",
            "own scale, 0 to 10",
            ("quality_heuristic",),
            (Line(request.quality_heuristic_min, "", "least"),),
        ),
        Measure("aesthetic", "Aesthetic (LAION)", "0 to 10", ("aesthetic",), each("aesthetic_min", "least")),
        Measure("ocr_coverage", "Text", "largest box / frame", ("ocr_coverage",), each("ocr_max", "most"), True),
        Measure(
            "motion_raft" if request.models.raft.weights else "motion",  # what the tiers judge by
            "Motion",
            "px at 256 px height per 0.25 s",
            ("motion_low", "motion_high", "motion"),
            (*each("motion_min", "least"), *each("motion_max", "most")),
            True,
        ),
        Measure("nsfw", "Not safe for work", "probability", ("nsfw",), (Line(request.nsfw_max, "", "most"),)),
        Measure("watermark", "Watermark", "probability", ("watermark",), (Line(request.watermark_max, "", "most"),)),
    ]
    return found


def value_of(row: Row, measure: Measure) -> float | None:
    """What the measure is for a row; None where it was never taken."""
    special: dict[str, Callable[[Row], float | None]] = {
        "kbps": lambda r: r["bitrate_kbps"],
        "fps": lambda r: r["fps"] if r["kind"] == "video" else None,
        "side": lambda r: None if r["width"] is None else float(min(r["width"], r["height"])),
        "clip_seconds": lambda r: r["seconds"] if r["kind"] == "video" and r["end_pts"] > r["start_pts"] else None,
    }
    value = special[measure.column](row) if measure.column in special else row.get(measure.column)
    return None if value is None else float(value)


def values(rows: Sequence[Row], measure: Measure) -> tuple[list[float], list[float]]:
    """(of what was kept, of what was not); for sources: kept when any of their clips is."""
    if measure.of == "clip":
        pairs = [(row["outcome"] == "kept", value_of(row, measure)) for row in rows]
    else:
        sources: dict[str, tuple[bool, float | None]] = {}
        for row in rows:
            kept, value = sources.get(row["media_id"], (False, None))
            sources[row["media_id"]] = (
                kept or row["outcome"] == "kept",
                value_of(row, measure) if value is None else value,
            )
        pairs = list(sources.values())
    return [v for kept, v in pairs if kept and v is not None], [v for kept, v in pairs if not kept and v is not None]


def nearest(rows: Sequence[Row], measure: Measure, count: int) -> tuple[list[Row], list[Row]]:
    """(kept, rejected by this measure): those whose value lies nearest to what rejected or would reject them."""
    gone = [row for row in rows if row["outcome"] == "rejected" and row["filter"] in measure.filters]
    gone.sort(key=lambda row: (abs(row["score"] - row["threshold"]), row["clip_id"]))
    limits = [line.value for line in measure.lines]
    kept = [(row, value_of(row, measure)) for row in rows if row["outcome"] == "kept"]
    ranked = sorted(
        ((min(abs(value - limit) for limit in limits), row["clip_id"], row) for row, value in kept if value is not None)
        if limits
        else [],
        key=lambda item: item[:2],
    )
    return [row for _, _, row in ranked[:count]], gone[:count]
