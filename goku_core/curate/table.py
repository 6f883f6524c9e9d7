"""The schema of data/clips.parquet: one row per candidate clip, and one per source that never became one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from goku_core.curate.scores import motion

OUTCOMES = ("kept", "rejected", "failed")


def _field(name: str, kind: pa.DataType, meaning: str, nullable: bool = True, **more: str) -> pa.Field:
    return pa.field(name, kind, nullable, {"description": meaning, **more})


_TEXT, _WHOLE, _REAL, _SHORT = pa.string(), pa.int64(), pa.float64(), pa.float32()
_MOTION = {"unit": motion.UNIT, "spacing_seconds": str(motion.SPACING), "height_px": str(motion.HEIGHT)}
_MOTION |= {"pairs_every_seconds": str(motion.EVERY)}

SCHEMA = pa.schema(
    [
        _field("clip_id", _TEXT, "media_id:start_pts-end_pts", nullable=False),
        _field("media_id", _TEXT, "SHA-256 of the raw file's bytes", nullable=False),
        _field(
            "uri", _TEXT, "file to read, relative to the workspace: the raw one or its H.264 transcode", nullable=False
        ),
        _field("kind", _TEXT, "video or image", nullable=False),
        _field("start_pts", _WHOLE, "first timestamp, ticks of the time base of uri", nullable=False),
        _field("end_pts", _WHOLE, "timestamp behind the last frame (exclusive); pictures have 0-1", nullable=False),
        _field("time_base_num", _WHOLE, "seconds per tick, numerator"),
        _field("time_base_den", _WHOLE, "seconds per tick, denominator"),
        _field("start_seconds", _REAL, "start_pts in s"),
        _field("seconds", _REAL, "length in s; of the whole source where it never became clips; 0 for pictures"),
        _field("fps", _REAL, "average frames/s of the source; 0 for pictures"),
        _field("width", _WHOLE, "px, as shown"),
        _field("height", _WHOLE, "px, as shown"),
        _field("bitrate_kbps", _REAL, "video bit rate of the raw file, kbit/s"),
        _field("codec", _TEXT, "codec of the raw file"),
        _field("motion", _SHORT, "motion score; null for pictures", **_MOTION),
        _field("ocr_coverage", _SHORT, "largest confirmed text box / frame area, 0 to 1", model="PP-OCRv6 (RapidOCR)"),
        _field("quality_heuristic", _SHORT, "0 to 10, own scale from sharpness and exposure; not an aesthetic score"),
        _field("sharpness", _SHORT, "variance of the Laplacian of luma at 256 px height"),
        _field("exposure", _SHORT, "share of pixels neither crushed nor blown out, 0 to 1"),
        _field("aesthetic", _SHORT, "LAION aesthetic score, mean of sampled frames; null where the scorer is off"),
        _field("nsfw", _SHORT, "probability of the worst sampled frame, 0 to 1; null where the scorer is off"),
        _field("watermark", _SHORT, "mean probability of sampled frames, 0 to 1; null where the scorer is off"),
        _field(
            "motion_raft",
            _SHORT,
            "motion score by RAFT; null for pictures and where the scorer is off",
            unit="mean optical flow (RAFT), px at 256 px frame height per 0.25 s",
            spacing_seconds="0.5, divided down to 0.25",
            height_px="256",
        ),
        _field("clip_embedding", pa.list_(_SHORT), "CLIP, mean of sampled frames, unit length; null where it is off"),
        _field("phash", _TEXT, "64-bit perceptual hash of the mean frame, 16 hexadecimal digits"),
        _field("caption", _TEXT, "plain caption, empty where there is none", nullable=False),
        _field("caption_source", _TEXT, "who wrote it: sidecar, keyframes, clip, merge; or none", nullable=False),
        _field(
            "text", _TEXT, "what a model is trained on: caption, for videos with '. motion: N' appended", nullable=False
        ),
        _field("caption_problem", _TEXT, "what was wrong with models' captions, by step; null where nothing was"),
        _field("primary", _TEXT, "primary class of the taxonomy; null where nothing tells"),
        _field("label", _TEXT, "sub-class of the taxonomy, unique in it; null where nothing tells"),
        _field("label_score", _SHORT, "0 to 1: its share of the words' votes, or CLIP's probability"),
        _field("repeats", pa.int32(), "times it is walked per epoch; 0 where balance took it out", nullable=False),
        _field("tier", _TEXT, "highest tier whose demands are met; null where not kept"),
        _field("outcome", _TEXT, "kept, rejected or failed", nullable=False),
        _field("filter", _TEXT, "what rejected it, or the error class; null when kept"),
        _field("score", _REAL, "what the filter measured"),
        _field("threshold", _REAL, "what the filter demands"),
        _field("message", _TEXT, "the reason in words; null when kept"),
        _field(
            "signature",
            pa.binary(),
            "what near-duplicates are told by, see scores/resemblance.py; 0.3 kB a frame",
        ),
    ]
)

# What the survey of one file returns; the later steps fill in theirs.
SURVEY_SCHEMA = SCHEMA

EMPTY: dict[str, object] = dict.fromkeys(SURVEY_SCHEMA.names) | {
    "start_pts": 0,
    "end_pts": 0,
    "caption": "",
    "caption_source": "none",
    "text": "",
    "repeats": 1,
    "outcome": "kept",
}


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema = SCHEMA) -> pa.Table:
    """Rows as a table of `SCHEMA`, or of it with other words about its columns; other keys are dropped."""
    return pa.Table.from_pylist([{name: row[name] for name in SCHEMA.names} for row in rows], schema=schema)


def clip_id(media_id: str, start_pts: int, end_pts: int) -> str:
    return f"{media_id}:{start_pts}-{end_pts}"
