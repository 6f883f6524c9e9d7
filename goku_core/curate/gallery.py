"""Pictures for the report: frames of kept clips and of clips that each filter took out, those nearest to each threshold,
near-duplicates side by side, and clips that play.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from goku_core.curate import proxies
from goku_core.curate.duplicates import LOOKS_LIKE
from goku_core.curate.page.measures import measures, nearest
from goku_core.curate.proxies import even_height
from goku_core.curate.request import Previews, Request
from goku_core.media import decode
from goku_core.media.encode import write_image, write_video
from goku_core.media.planes import resize
from goku_core.media.probe import MediaError

QUALITY = 80  # JPEG
MOST_FPS = 24.0
SHOWN = (
    *("clip_id", "uri", "kind", "start_seconds", "seconds", "width", "height", "fps", "tier"),
    *("outcome", "filter", "score", "threshold", "message", "caption", "primary", "label"),
    *("motion", "ocr_coverage", "quality_heuristic", "aesthetic", "sharpness", "exposure"),
)


def write_gallery(
    rows: list[dict[str, Any]],
    folder: Path,
    request: Request,
    locate: Callable[[str], Path],
    stills: Path | None = None,
    cores: int = 1,
) -> list[dict[str, Any]]:
    """Writes examples/*.jpg and clips/*.mp4; returns what each file shows and why it is shown, in order.

    role    "kept" and "rejected": spread over the table; "near": nearest to a threshold, on either side of it (`measure`);
            "pair": a near-duplicate and, under `twin`, the clip that stayed in its place; "clip": plays
    locate  from a row's uri to the file
    stills  folder of pictures that the survey left; what has none there is decoded
    cores   clips that are cut at a time

    A row is drawn once, however many roles it has. Failed files have no picture.
    """
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    previews = request.previews
    drawn: dict[str, str | None] = {}

    def frame_of(row: dict[str, Any]) -> str | None:
        if row["clip_id"] not in drawn:
            file = f"examples/{_short(row)}.jpg"
            written = _write_frame(folder / file, row, previews.width, locate(row["uri"]), stills)
            drawn[row["clip_id"]] = file if written else None
        return drawn[row["clip_id"]]

    shown: list[dict[str, Any]] = []
    for group in _groups(rows).values():
        for row in _spread(group, previews.frames):
            if file := frame_of(row):
                shown.append(_entry(file, row, row["outcome"]))
    for measure in measures(request):
        for side in nearest(rows, measure, previews.frames):
            for row in side:
                if file := frame_of(row):
                    shown.append(_entry(file, row, "near", measure=measure.column))
    for row, twin in _pairs(rows)[: previews.frames]:
        file, other = frame_of(row), frame_of(twin)
        if file and other:
            shown.append(_entry(file, row, "pair", twin=_entry(other, twin, "pair")))
    playing = [(f"clips/{_short(row)}.mp4", row) for row in _playing(rows, previews)]
    with ThreadPoolExecutor(max(1, cores)) as threads:  # decoders and encoders let go of Python's lock
        written = threads.map(
            lambda one: _write_clip(folder / one[0], one[1], previews, locate(one[1]["uri"])), playing
        )
        shown += [_entry(file, row, "clip") for (file, row), there in zip(playing, written, strict=True) if there]
    return shown


def _short(row: dict[str, Any]) -> str:
    """A file name for a clip; its id has a colon, which not every file system takes."""
    return hashlib.sha256(row["clip_id"].encode()).hexdigest()[:20]


def _pairs(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(near-duplicate, what stayed in its place), the most unlike first: those are the ones to look at."""
    by_id = {row["clip_id"]: row for row in rows}
    found = []
    for row in rows:
        if row["outcome"] == "rejected" and row["filter"] == "near_duplicate":
            twin = by_id.get(row["message"].removeprefix(LOOKS_LIKE).split(",")[0].split(" ")[0])
            if twin is not None:
                found.append((row, twin))
    return sorted(found, key=lambda pair: (-pair[0]["score"], pair[0]["clip_id"]))


def _playing(rows: list[dict[str, Any]], previews: Previews) -> list[dict[str, Any]]:
    """Clips of the gallery: kept ones, and some of each filter."""
    videos = [row for row in rows if row["kind"] == "video" and row["end_pts"] > row["start_pts"]]
    chosen = _spread([row for row in videos if row["outcome"] == "kept"], previews.clips)
    gone = {name: [r for r in videos if r["filter"] == name] for name in sorted({r["filter"] or "" for r in videos})}
    for name, group in gone.items():
        if name:
            chosen = chosen + _spread(group, previews.rejected_clips)
    return chosen


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


def _entry(file: str, row: dict[str, Any], role: str, **more: Any) -> dict[str, Any]:
    return {"file": file, "role": role} | {name: row.get(name) for name in SHOWN} | more


def _write_frame(path: Path, row: dict[str, Any], width: int, source: Path, stills: Path | None) -> bool:
    height = even_height(row["height"], row["width"], width)
    try:
        if row["kind"] == "image":
            image = decode.read_image(source, height, width)
        elif (still := _still(row, stills)) is not None:
            image = resize(still, height, width)
        else:
            image = _middle(row, source).rgb(height, width)
    except MediaError:  # a file the gate refused may be damaged too; its row says why it went
        return False
    write_image(path, image, QUALITY)
    return True


def _still(row: dict[str, Any], stills: Path | None) -> np.ndarray | None:
    """What the survey saw in the middle of a clip. None where it left nothing: the file was never decoded whole."""
    if stills is None or not (stills / f"{row['media_id']}.safetensors").is_file():
        return None
    found = proxies.read(stills, row["media_id"], row["start_pts"], row["end_pts"], 1)
    return found[0][1] if found else None


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
    height, width = even_height(row["height"], row["width"], previews.width), previews.width
    try:
        shown = list(_small(decode.shown_frames(source, row["start_pts"], row["end_pts"], fps, count), height, width))
    except MediaError:
        return False
    write_video(path, shown, fps, crf=26)
    return True


def _small(shown: Iterator[decode.Frame], height: int, width: int) -> Iterator[np.ndarray]:
    """Colours are converted after scaling: at 1080p a tenth of the work."""
    return (frame.small(max(height, width)).rgb(height, width) for frame in shown)
