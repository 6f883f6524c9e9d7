"""Kept rows of `data/clips.parquet` as pixels: what VAE training and precomputation read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from goku_core.media.decode import cover, read_clip, read_image, read_windows, stream_clip
from goku_core.media.probe import probe

END_MARGIN_SECONDS = 0.05  # the last window's last frame lies this far before the end: a frame of 24 per second


@dataclass(frozen=True)
class Span:
    """A kept clip or picture: where its pixels are and what is said about it.

    caption   what was said beside the file; text: the same with the motion score appended (paper section 4.6)
    size      (height, width) in px as shown; None where the table does not say
    """

    clip_id: str
    media_id: str
    path: Path
    kind: str
    start_pts: int
    end_pts: int
    seconds: float
    caption: str
    text: str
    size: tuple[int, int] | None = None

    @property
    def is_clip(self) -> bool:
        return self.kind == "video"


COLUMNS = ("clip_id", "media_id", "uri", "kind", "start_pts", "end_pts", "seconds", "caption", "text")
# What later stages take along where curation has written it.
OPTIONAL_COLUMNS = (
    "height",
    "width",
    "motion",
    "quality_heuristic",
    "aesthetic",
    "primary",
    "label",
    "label_score",
    "repeats",
)


def kept_rows(table: Path) -> pa.Table:
    """Kept rows of clips.parquet in the order of clip ids: `COLUMNS`, and those of `OPTIONAL_COLUMNS` that are there."""
    there = set(pq.read_schema(table).names)
    optional = [name for name in OPTIONAL_COLUMNS if name in there]
    rows = pq.read_table(table, columns=[*COLUMNS, *optional, "outcome"])
    kept = rows.filter(pc.equal(rows["outcome"], "kept")).sort_by("clip_id").combine_chunks()
    return kept.drop_columns(["outcome"])


def kept_spans(table: Path, workspace: Path) -> list[Span]:
    """Kept rows of clips.parquet, in the order of clip ids."""
    return [span_of_row(row, workspace) for row in kept_rows(table).to_pylist()]


def span_of_row(row: dict[str, Any], workspace: Path) -> Span:
    height, width = row.get("height"), row.get("width")
    return Span(
        row["clip_id"],
        row["media_id"],
        workspace / row["uri"],
        row["kind"],
        row["start_pts"],
        row["end_pts"],
        row["seconds"] or 0.0,
        row["caption"] or "",
        row["text"] or "",
        (height, width) if height and width else None,
    )


def shown_size(span: Span) -> tuple[int, int]:
    """(height, width) of the source in px, as shown: from the table, else from the file's header."""
    if span.size is not None:
        return span.size
    info = probe(span.path)
    return info.height, info.width


def fits(span: Span, frames: int, fps: float) -> bool:
    """Whether a clip is long enough for `frames` at `fps`: its end is exclusive, so the last one must lie before it."""
    return span.seconds > (frames - 1) / fps


def read_frames(span: Span, frames: int, fps: float, height: int, width: int, first: float = 0.0) -> np.ndarray:
    """uint8 (T, height, width, 3): T = 1 for a picture; may be shorter than `frames` at the end of a span."""
    if not span.is_clip:
        return read_image(span.path, height, width)[None]
    return read_clip(span.path, span.start_pts, span.end_pts, fps, frames, height, width, first=first)


def read_each(
    span: Span, frames: int, fps: float, height: int, width: int, firsts: Sequence[float]
) -> list[np.ndarray]:
    """`read_frames` from each of `firsts`, all of them from one decode."""
    if not span.is_clip:
        return [read_frames(span, frames, fps, height, width)] * len(firsts)
    return read_windows(span.path, span.start_pts, span.end_pts, fps, frames, height, width, firsts)


def stream_frames(
    span: Span, frames: int, fps: float, height: int, width: int, first: float = 0.0
) -> Iterator[np.ndarray]:
    """The frames of `read_frames` one after the other: uint8 (height, width, 3) each."""
    if not span.is_clip:
        return iter((read_image(span.path, height, width),))
    return stream_clip(span.path, span.start_pts, span.end_pts, fps, frames, height, width, first=first)


def resized(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (T, H, W, 3) scaled to cover the size and cut at the centre."""
    return np.stack([cover(frame, height, width) for frame in frames])


def window_starts(span: Span, frames: int, fps: float, windows: int) -> list[float]:
    """Where `windows` spans of `frames` begin, in seconds into the clip, evenly spread over it."""
    slack = span.seconds - (frames - 1) / fps - END_MARGIN_SECONDS
    if windows == 1 or slack <= 0:
        return [0.0]
    return sorted({round(slack * k / (windows - 1), 3) for k in range(windows)})
