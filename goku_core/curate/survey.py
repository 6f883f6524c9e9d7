"""The operator of `curate`: one raw file in, its candidate clips with their scores out.

A video is decoded exactly once; shots, motion, text, sharpness, hash and, where needed, the H.264 copy are all fed from
that one pass. The operator measures and judges what concerns the file alone (gate, damage, length); whether a clip is
kept is decided later, from the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from goku_core.curate.decide import rejected
from goku_core.curate.gate import Verdict, judge
from goku_core.curate.request import Request
from goku_core.curate.scores import picture, resemblance
from goku_core.curate.scores.shots import ShotFinder
from goku_core.curate.scores.text import text_meter
from goku_core.curate.spans import SAMPLE_SIDE, Span, SpanRecorder
from goku_core.curate.table import EMPTY, SURVEY_SCHEMA, clip_id
from goku_core.curate.transcode import TIME_BASE, Transcoder
from goku_core.media import decode
from goku_core.media.decode import Frame, resize
from goku_core.media.probe import MediaError, MediaInfo, probe

KEPT_CODEC = "h264"
TRANSCODED = "data/transcoded"
# A file that ends this much before its header says is truncated; less is rounding, or sound that outlasts the picture.
MISSING_SHARE, MISSING_SECONDS = 0.05, 1.0


def survey(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """Operator. Rows of raw.parquet in, rows of `SURVEY_SCHEMA` out, at least one per input row.

    settings: request (JSON of `Request`), workspace (folder that uris are relative to), transcoded (folder for copies).
    """
    cv2.setNumThreads(1)  # the pool runs one process per core
    request = Request(**settings["request"])
    rows: list[dict[str, Any]] = []
    for raw in batch.to_pylist():
        source = EMPTY | {"media_id": raw["media_id"], "uri": raw["uri"], "kind": raw["kind"]}
        path = Path(settings["workspace"]) / raw["uri"]
        try:
            rows += survey_file(path, source, request, Path(settings["transcoded"]))
        except MediaError as error:
            rows.append(_ended(source, "failed", error.error_class, error.message))
    return pa.RecordBatch.from_pylist(rows, schema=SURVEY_SCHEMA)


def survey_file(path: Path, source: dict[str, Any], request: Request, transcoded: Path) -> list[dict[str, Any]]:
    """Rows of one file; ``source`` holds its identity. Raises `MediaError` where the file is broken."""
    info = probe(path)
    source = source | {
        "kind": info.kind,
        "seconds": info.seconds,
        "fps": float(info.fps),
        "width": info.width,
        "height": info.height,
        "codec": info.codec,
        "bitrate_kbps": info.bitrate_kbps if info.kind == "video" else None,
        "time_base_num": info.time_base.numerator,
        "time_base_den": info.time_base.denominator,
    }
    if (verdict := judge(info, request.gate)) is not None:
        return [rejected(_ended(source, "rejected", verdict.filter, verdict.message), verdict)]
    if info.kind == "image":
        return [_picture_row(path, source, request)]
    if info.codec == KEPT_CODEC:
        frames = decode.frames(path)
        return _video_rows(frames, source, info, request)
    copy = transcoded / f"{source['media_id']}.mp4"
    with Transcoder(copy, info.fps) as transcoder:
        frames = (transcoder.add(frame) for frame in decode.frames(path))
        source |= {"uri": f"{TRANSCODED}/{copy.name}"}
        source |= {"width": info.width // 2 * 2, "height": info.height // 2 * 2}  # 4:2:0 needs even sides
        source |= {"time_base_num": TIME_BASE.numerator, "time_base_den": TIME_BASE.denominator}
        return _video_rows(frames, source, info, request)


def _ended(source: dict[str, Any], outcome: str, reason: str, message: str) -> dict[str, Any]:
    """The one row of a source that never became clips."""
    name = clip_id(source["media_id"], 0, 0)
    return source | {"clip_id": name, "outcome": outcome, "filter": reason, "message": message}


def _picture_row(path: Path, source: dict[str, Any], request: Request) -> dict[str, Any]:
    image = decode.read_image(path)
    scale = min(1.0, SAMPLE_SIDE / max(image.shape[:2]))
    image = resize(image, round(image.shape[0] * scale), round(image.shape[1] * scale))
    row = source | {"clip_id": clip_id(source["media_id"], 0, 1), "end_pts": 1, "start_seconds": 0.0}
    return row | _scores([image], request)


def _video_rows(
    frames: Iterator[Frame], source: dict[str, Any], info: MediaInfo, request: Request
) -> list[dict[str, Any]]:
    time_base = Fraction(source["time_base_num"], source["time_base_den"])
    shots = request.shots
    finder = ShotFinder(info.fps, shots.adaptive_threshold, shots.min_content, shots.min_seconds)
    recorder = SpanRecorder(time_base, info.fps, request.max_clip_seconds, request.min_clip_seconds)
    rows = [_clip_row(span, source, time_base, request) for span in recorder.record(finder.mark(frames))]
    if not rows:
        raise MediaError("truncated", "the header is readable, but no frame follows it")
    seen = float((rows[-1]["end_pts"] - rows[0]["start_pts"]) * time_base)
    if info.seconds - seen > max(MISSING_SECONDS, MISSING_SHARE * info.seconds):
        raise MediaError("truncated", f"the header promises {info.seconds:.2f} s, {seen:.2f} s can be decoded")
    return rows


def _clip_row(span: Span, source: dict[str, Any], time_base: Fraction, request: Request) -> dict[str, Any]:
    seconds = float((span.end - span.start) * time_base)
    row = source | {
        "clip_id": clip_id(source["media_id"], span.start, span.end),
        "start_pts": span.start,
        "end_pts": span.end,
        "start_seconds": float(span.start * time_base),
        "seconds": seconds,
        "motion": span.motion,
    }
    if span.end - span.start < request.min_clip_seconds / time_base - 1:
        text = f"the shot lasts {seconds:.2f} s, at least {request.min_clip_seconds:g} s are needed"
        return rejected(row, Verdict("clip_seconds", seconds, request.min_clip_seconds, text))
    return row | _scores(span.samples, request)


def _scores(samples: list[np.ndarray], request: Request) -> dict[str, Any]:
    """Scores from frames of a clip, or from the one picture."""
    count = len(samples)
    # Inner positions: the first and last frames of a shot are the likeliest to be fades.
    first, middle, last = count // 4, count // 2, 3 * count // 4
    strictest = min(tier.ocr_max for tier in request.tiers.values())
    text = max(text_meter().coverage(samples[index], strictest) for index in sorted({first, last}))
    small = {index: _small(samples[index]) for index in sorted({first, middle, last})}
    lumas = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in small.values()]
    sharp = float(np.mean([picture.sharpness(luma) for luma in lumas]))
    exposed = float(np.mean([picture.exposure(luma) for luma in lumas]))
    return {
        "ocr_coverage": text,
        "sharpness": sharp,
        "exposure": exposed,
        "quality_heuristic": picture.heuristic(sharp, exposed),
    } | resemblance.look(samples)


def _small(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return resize(image, picture.HEIGHT, max(1, round(width * picture.HEIGHT / height)))
