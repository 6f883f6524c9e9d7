"""The operator of `curate`: one raw file in, its candidate clips with their scores out.

A video is decoded exactly once; shots, motion, text, sharpness, hash, features, the sampled frames that models read and,
where needed, the H.264 copy are all fed from that one pass. The operator measures and judges what concerns the file
alone (gate, damage, length); whether a clip is kept is decided later, from the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from goku_core.curate.decide import rejected
from goku_core.curate.gate import Verdict, judge
from goku_core.curate.prescreen import screen
from goku_core.curate.proxies import LONG_SIDE, ProxyWriter, even_height
from goku_core.curate.refine import Refiner, features_of
from goku_core.curate.remux import SOUND, remuxed
from goku_core.curate.request import Request
from goku_core.curate.scores import picture, resemblance
from goku_core.curate.scores.shots import ShotFinder
from goku_core.curate.scores.text import text_meter
from goku_core.curate.spans import SAMPLE_SIDE, Span, SpanRecorder
from goku_core.curate.table import EMPTY, SURVEY_SCHEMA, clip_id
from goku_core.curate.transcode import TIME_BASE, Transcoder
from goku_core.media import decode
from goku_core.media.ahead import ahead
from goku_core.media.decode import Frame, resize
from goku_core.media.faults import MediaError
from goku_core.media.probe import MISSING_SECONDS, MISSING_SHARE, MediaInfo, probe

KEPT_CODEC = "h264"
TRANSCODED = "data/transcoded"
AHEAD = 4  # decoded frames that wait for the scorers: a core decodes while another one looks
TRANSITIONS = {"fade": "a fade", "dissolve": "a dissolve", "cut": "something between two cuts"}
AT_THE_ENDS = {"fade": ("a fade-in", "a fade-out")}  # of a film
STILL_QUALITY = 95  # of pictures that are coded once more when they are shown


def survey(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """Operator. Rows of raw.parquet in, rows of `SURVEY_SCHEMA` out, at least one per input row.

    settings: request (JSON of `Request`), workspace (folder that uris are relative to), transcoded (folder for copies),
    proxies and stills (folders for sampled frames; absent where no later step reads any).
    """
    cv2.setNumThreads(1)  # the pool runs one process per core
    request = Request(**settings["request"])
    rows: list[dict[str, Any]] = []
    for raw in batch.to_pylist():
        source = EMPTY | {"media_id": raw["media_id"], "uri": raw["uri"], "kind": raw["kind"]}
        path = Path(settings["workspace"]) / raw["uri"]
        try:
            places = [Path(settings[name]) if settings.get(name) else None for name in ("proxies", "stills")]
            rows += survey_file(path, source, request, Path(settings["transcoded"]), *places)
        except MediaError as error:
            rows.append(_ended(source, "failed", error.error_class, error.message))
    return pa.RecordBatch.from_pylist(rows, schema=SURVEY_SCHEMA)


def survey_file(
    path: Path,
    source: dict[str, Any],
    request: Request,
    transcoded: Path,
    proxies: Path | None = None,
    stills: Path | None = None,
) -> list[dict[str, Any]]:
    """Rows of one file; ``source`` holds its identity. Raises `MediaError` where the file is broken.

    transcoded  folder for an H.264 copy, where one is needed
    proxies     folder for sampled frames (see `proxies`); None where no later step reads any
    stills      folder for one small picture of each clip; None where nobody looks at any
    """
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
    with ExitStack() as files:
        writer = None if proxies is None else files.enter_context(ProxyWriter(proxies, source["media_id"]))
        if info.kind == "image":
            return [_picture_row(path, source, request, writer)]
        if (verdict := screen(path, info, request)) is not None:
            return [rejected(_ended(source, "rejected", verdict.filter, verdict.message), verdict)]
        copy = transcoded / f"{source['media_id']}.mp4"
        frames: Iterable[Frame]
        if info.codec == KEPT_CODEC and info.container in SOUND:
            frames = decode.frames(path)
        elif info.codec == KEPT_CODEC:
            files.enter_context(remuxed(path, copy))
            info = probe(copy)
            source |= {"uri": f"{TRANSCODED}/{copy.name}"}
            source |= {"time_base_num": info.time_base.numerator, "time_base_den": info.time_base.denominator}
            frames = decode.frames(copy)
        else:
            frames = map(files.enter_context(Transcoder(copy, info.fps)).add, decode.frames(path))
            source |= {"uri": f"{TRANSCODED}/{copy.name}"}
            source |= {"width": info.width // 2 * 2, "height": info.height // 2 * 2}  # 4:2:0 needs even sides
            source |= {"time_base_num": TIME_BASE.numerator, "time_base_den": TIME_BASE.denominator}
        frames = files.enter_context(closing(ahead(frames, AHEAD)))
        drawer = None if stills is None else files.enter_context(ProxyWriter(stills, source["media_id"], STILL_QUALITY))
        return _video_rows(frames, source, info, request, writer, drawer)


def _ended(source: dict[str, Any], outcome: str, reason: str, message: str) -> dict[str, Any]:
    """The one row of a source that never became clips."""
    name = clip_id(source["media_id"], 0, 0)
    return source | {"clip_id": name, "outcome": outcome, "filter": reason, "message": message}


def _picture_row(path: Path, source: dict[str, Any], request: Request, proxies: ProxyWriter | None) -> dict[str, Any]:
    image = decode.read_image(path)
    image = _within(image, SAMPLE_SIDE)
    if proxies is not None:
        proxies.add(0, _within(image, LONG_SIDE))
    row = source | {"clip_id": clip_id(source["media_id"], 0, 1), "end_pts": 1, "start_seconds": 0.0}
    return row | _scores([_Sample(image)], request)


def _within(image: np.ndarray, longest: int) -> np.ndarray:
    scale = min(1.0, longest / max(image.shape[:2]))
    return resize(image, *(max(1, round(side * scale)) for side in image.shape[:2]))


def _video_rows(
    frames: Iterable[Frame],
    source: dict[str, Any],
    info: MediaInfo,
    request: Request,
    proxies: ProxyWriter | None,
    stills: ProxyWriter | None,
) -> list[dict[str, Any]]:
    time_base = Fraction(source["time_base_num"], source["time_base_den"])
    kinds: list[str | None] = []
    rows: list[dict[str, Any]] = []
    for span in spans(frames, info, time_base, request, proxies):
        kinds.append(span.transition)
        rows.append(_clip_row(span, source, time_base, request))
        if stills is not None and span.samples:
            sample = min(span.samples, key=lambda sample: abs(2 * sample.pts - span.start - span.end))
            stills.add(sample.pts, _preview(sample, request.previews.width))
    if not rows:
        raise MediaError("truncated", "the header is readable, but no frame follows it")
    seen = float((rows[-1]["end_pts"] - rows[0]["start_pts"]) * time_base)
    if info.seconds - seen > max(MISSING_SECONDS, MISSING_SHARE * info.seconds):
        raise MediaError("truncated", f"the header promises {info.seconds:.2f} s, {seen:.2f} s can be decoded")
    for place, kind in enumerate(kinds):
        if kind is not None:
            rows[place] = _transition(rows[place], kinds, place)
    return rows


def spans(
    frames: Iterable[Frame],
    info: MediaInfo,
    time_base: Fraction,
    request: Request,
    proxies: ProxyWriter | None = None,
) -> Iterator[Span]:
    """Candidate clips and transitions of one video, in order. time_base: of the frames' timestamps, s per tick."""
    features = features_of(request.refine)
    refiner = None if features is None else Refiner(features, request.refine.least(min(info.width, info.height)))
    finder = ShotFinder(time_base, request.shots)

    def keep(sample: Frame) -> None:
        if proxies is not None:
            proxies.add(sample.pts, sample.small(LONG_SIDE).rgb())

    recorder = SpanRecorder(
        time_base, info.fps, request.max_clip_seconds, request.min_clip_seconds, refiner, on_sample=keep
    )
    for frame in frames:
        found = finder.add(frame)
        recorder.add(frame, finder.change)
        for boundary in found:
            yield from recorder.cut(boundary)
        yield from recorder.settle(finder.settled)
    for boundary in finder.finish(recorder.end):
        yield from recorder.cut(boundary)
    yield from recorder.finish()


def _preview(frame: Frame, width: int) -> np.ndarray:
    height = even_height(*frame.size, width)
    return frame.small(max(height, width)).rgb(height, width)


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
    if span.transition is not None:
        return row
    if span.end - span.start < request.min_clip_seconds / time_base - 1:
        text = f"the shot lasts {seconds:.2f} s, at least {request.min_clip_seconds:g} s are needed"
        return rejected(row, Verdict("clip_seconds", seconds, request.min_clip_seconds, text))
    return row | _scores([_Sample(frame) for frame in span.samples], request)


def _transition(row: dict[str, Any], kinds: Sequence[str | None], place: int) -> dict[str, Any]:
    """The finished row of a span between shots, or before the first or behind the last of them.

    kinds: of all spans of the film, None for shots; place: of this one
    """
    kind, seconds = kinds[place] or "", row["seconds"]
    before, behind = None in kinds[:place], None in kinds[place + 1 :]
    opening, closing = AT_THE_ENDS.get(kind, (TRANSITIONS[kind],) * 2)
    if before and behind:
        text = f"{TRANSITIONS[kind]} of {seconds:.2f} s between two shots: its frames belong to neither"
    elif before:
        text = f"{closing} of {seconds:.2f} s at the end of the film: its frames belong to no shot"
    elif behind:
        text = f"{opening} of {seconds:.2f} s at the start of the film: its frames belong to no shot"
    else:
        text = f"{TRANSITIONS[kind]} of {seconds:.2f} s, and no shot in the film to which its frames could belong"
    return rejected(row, Verdict("transition", seconds, 0.0, text))


@dataclass(frozen=True)
class _Sample:
    """A frame of a clip, or the one picture; pixels are converted for those that are looked at, in the size that is needed."""

    source: Frame | np.ndarray

    def whole(self) -> np.ndarray:
        return self.source if isinstance(self.source, np.ndarray) else self.source.rgb()

    def low(self) -> np.ndarray:
        """uint8 RGB, `picture.HEIGHT` high."""
        if isinstance(self.source, np.ndarray):
            height, width = self.source.shape[:2]
        else:
            height, width = self.source.size
        size = picture.HEIGHT, max(1, round(width * picture.HEIGHT / height))
        image = self.source if isinstance(self.source, np.ndarray) else self.source.small(max(size)).rgb()
        return resize(image, *size)


def _scores(samples: list[_Sample], request: Request) -> dict[str, Any]:
    count = len(samples)
    # Inner positions: the first and last frames of a shot are the likeliest to be fades.
    first, middle, last = count // 4, count // 2, 3 * count // 4
    strictest = min(tier.ocr_max for tier in request.tiers.values())
    text = max(text_meter().coverage(samples[index].whole(), strictest) for index in sorted({first, last}))
    low = {index: samples[index].low() for index in sorted({first, middle, last})}
    lumas = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in low.values()]
    sharp = float(np.mean([picture.sharpness(luma) for luma in lumas]))
    exposed = float(np.mean([picture.exposure(luma) for luma in lumas]))
    return {
        "ocr_coverage": text,
        "sharpness": sharp,
        "exposure": exposed,
        "quality_heuristic": picture.heuristic(sharp, exposed),
    } | resemblance.look([low.get(index) if index in low else sample.low() for index, sample in enumerate(samples)])
