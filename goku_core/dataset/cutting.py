"""A clip as a file of its own. Packets are copied where that gives exactly the clip's frames; else it is encoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from goku_core.curate.transcode import Transcoder
from goku_core.media import decode
from goku_core.media.packets import demuxed
from goku_core.media.probe import open_container, probe, video_stream
from goku_core.pipeline.errors import GokuError

CONTAINERS = ("mov", "matroska")  # whose H.264 packets MP4 takes as they are


def cut(source: Path, start_pts: int, end_pts: int, target: Path) -> Literal["copied", "encoded"]:
    """Writes the frames with ``start_pts <= pts < end_pts`` as H.264 in MP4, their first at time 0, without sound.

    Equal inputs give equal bytes. Raises `MediaError` where the source is damaged, `GokuError` where the span is empty.
    """
    if _copied(source, start_pts, end_pts, target):
        return "copied"
    info = probe(source)
    count = 0
    with Transcoder(target, info.fps) as transcoder:
        for frame in decode.frames(source, start_pts, end_pts):
            transcoder.add(frame)
            count += 1
    if not count:
        raise GokuError(f"{source.name} has no frame between the timestamps {start_pts} and {end_pts}")
    return "encoded"


def _copied(source: Path, start: int, end: int, target: Path) -> bool:
    import av

    with open_container(source) as container:
        stream = video_stream(container)
        if stream.codec_context.name != "h264" or not set(container.format.name.split(",")) & set(CONTAINERS):
            return False
        packets = _packets(container, stream, start, end)
        if not packets or _turned(source):
            return False
        options = {"fflags": "+bitexact", "movflags": "+faststart"}
        partial = target.with_name(f".{target.stem}.partial{target.suffix}")
        try:
            with av.open(str(partial), "w", format="mp4", options=options) as output:
                into = output.add_stream_from_template(stream)
                for packet in packets:
                    packet.pts -= start
                    packet.dts -= start
                    packet.stream = into
                    output.mux(packet)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return True


def _packets(container: Any, stream: Any, start: int, end: int) -> list[Any]:
    """Packets of exactly the frames of the span, in decoding order; empty where they need others.

    They need none where the span begins with a key frame and, from there on, no frame of before or behind the span is
    decoded in between.
    """
    if start > (stream.start_time or 0):
        container.seek(start, stream=stream, backward=True)
    chosen: list[Any] = []
    passed = False
    for packet in demuxed(container, stream):
        if packet.pts is None or packet.dts is None:
            break  # the mark at the end of the file
        if not chosen:
            if packet.pts == start and packet.is_keyframe:
                chosen.append(packet)
            elif packet.pts >= start:
                return []
        elif packet.pts >= end:
            passed = True
            if packet.is_keyframe:
                break
        elif packet.pts < start or passed:
            return []
        else:
            chosen.append(packet)
    return chosen


def _turned(source: Path) -> bool:
    """A rotation flag is lost with the header: such clips are encoded upright."""
    return probe(source).rotation != 0
