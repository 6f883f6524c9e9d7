"""Pictures for the report: frames of kept clips and of clips that each filter took out, and a few playing clips."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from goku_core.curate.request import Previews
from goku_core.media import decode
from goku_core.media.encode import write_image, write_video
from goku_core.media.probe import MediaError

QUALITY = 80  # JPEG
MOST_FPS = 24.0


def write_gallery(
    rows: list[dict[str, Any]], folder: Path, previews: Previews, locate: Callable[[str], Path]
) -> list[dict[str, Any]]:
    """Writes examples/*.jpg and clips/*.mp4; returns what each file shows, in order. Failed files have no picture.

    locate: from a row's uri to the file.
    """
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    shown: list[dict[str, Any]] = []
    for name, group in _groups(rows).items():
        for number, row in enumerate(_spread(group, previews.frames)):
            file = f"examples/{name}-{number}.jpg"
            if _write_frame(folder / file, row, previews.width, locate(row["uri"])):
                shown.append(_entry(file, row))
    kept = [row for row in rows if row["outcome"] == "kept" and row["kind"] == "video"]
    for number, row in enumerate(_spread(kept, previews.clips)):
        file = f"clips/kept-{number}.mp4"
        if _write_clip(folder / file, row, previews, locate(row["uri"])):
            shown.append(_entry(file, row))
    return shown


def _groups(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows that can be shown: "kept-video", "kept-image", and one group per filter."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["outcome"] == "failed":
            continue
        name = f"kept-{row['kind']}" if row["outcome"] == "kept" else row["filter"].replace("_", "-")
        groups.setdefault(name, []).append(row)
    return dict(sorted(groups.items()))


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """``count`` of the rows, evenly spread: neighbours in the table come from one source."""
    if len(rows) <= count:
        return rows
    return [rows[index * len(rows) // count] for index in range(count)]


def _entry(file: str, row: dict[str, Any]) -> dict[str, Any]:
    names = ("clip_id", "uri", "kind", "outcome", "filter", "score", "threshold", "message", "caption", "motion")
    return {"file": file} | {name: row[name] for name in names}


def _height(row: dict[str, Any], width: int) -> int:
    return max(2, round(row["height"] * width / row["width"] / 2) * 2)


def _write_frame(path: Path, row: dict[str, Any], width: int, source: Path) -> bool:
    height = _height(row, width)
    try:
        if row["kind"] == "image":
            image = decode.read_image(source, height, width)
        else:
            image = _middle(row, source).rgb(height, width)
    except MediaError:  # a file the gate refused may be damaged too; its row says why it went
        return False
    write_image(path, image, QUALITY)
    return True


def _middle(row: dict[str, Any], source: Path) -> decode.Frame:
    """The frame in the middle of a clip, or of a source that never became one."""
    start, end = row["start_pts"], row["end_pts"]
    if end <= start:
        ticks = Fraction(row["time_base_den"], row["time_base_num"])
        start, end = 0, int((row["seconds"] or 0.0) * ticks)
    frame = next(decode.frames(source, (start + end) // 2), None) or next(decode.frames(source), None)
    if frame is None:
        raise MediaError("truncated", "no frame to show")
    return frame


def _write_clip(path: Path, row: dict[str, Any], previews: Previews, source: Path) -> bool:
    fps = min(MOST_FPS, row["fps"])
    count = max(1, round(previews.seconds * fps))
    height = _height(row, previews.width)
    try:
        clip = decode.read_clip(source, row["start_pts"], row["end_pts"], fps, count, height, previews.width)
    except MediaError:
        return False
    write_video(path, clip, fps, crf=26)
    return True
