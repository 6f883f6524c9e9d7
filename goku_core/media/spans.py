"""Kept rows of `data/clips.parquet` as pixels: what VAE training and precomputation read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from goku_core.media.decode import cover, read_clip, read_image

END_MARGIN_SECONDS = 0.05  # the last window's last frame lies this far before the end: a frame of 24 per second


@dataclass(frozen=True)
class Span:
    """A kept clip or picture: where its pixels are and what is said about it.

    caption   what was said beside the file; text: the same with the motion score appended (paper section 4.6)
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

    @property
    def is_clip(self) -> bool:
        return self.kind == "video"


COLUMNS = ("clip_id", "media_id", "uri", "kind", "start_pts", "end_pts", "seconds", "caption", "text")


def kept_spans(table: Path, workspace: Path) -> list[Span]:
    """Kept rows of clips.parquet, in the order of clip ids."""
    rows = pq.read_table(table, columns=[*COLUMNS, "outcome"])
    kept = rows.filter(pc.equal(rows["outcome"], "kept")).sort_by("clip_id").to_pylist()
    return [span_of_row(row, workspace) for row in kept]


def span_of_row(row: dict[str, Any], workspace: Path) -> Span:
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
    )


def fits(span: Span, frames: int, fps: float) -> bool:
    """Whether a clip is long enough for `frames` at `fps`: its end is exclusive, so the last one must lie before it."""
    return span.seconds > (frames - 1) / fps


def read_frames(span: Span, frames: int, fps: float, height: int, width: int, first: float = 0.0) -> np.ndarray:
    """uint8 (T, height, width, 3): T = 1 for a picture; may be shorter than `frames` at the end of a span."""
    if not span.is_clip:
        return read_image(span.path, height, width)[None]
    return read_clip(span.path, span.start_pts, span.end_pts, fps, frames, height, width, first=first)


def resized(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (T, H, W, 3) scaled to cover the size and cut at the centre."""
    return np.stack([cover(frame, height, width) for frame in frames])


def window_starts(span: Span, frames: int, fps: float, windows: int) -> list[float]:
    """Where `windows` spans of `frames` begin, in seconds into the clip, evenly spread over it."""
    slack = span.seconds - (frames - 1) / fps - END_MARGIN_SECONDS
    if windows == 1 or slack <= 0:
        return [0.0]
    return sorted({round(slack * k / (windows - 1), 3) for k in range(windows)})
