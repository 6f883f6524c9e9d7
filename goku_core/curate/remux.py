"""Repair without loss: H.264 in a container that cannot be entered in the middle is copied, packet by packet, into MP4.

MPEG-TS, MPEG-PS, FLV and Ogg have no index; AVI has one, but no times of display, so that FFmpeg's guess is wrong wherever
frames are reordered (measured: half of the frames of an AVI with B-frames came out with falling timestamps). No pixel
changes: the copy decodes to the same frames, and spans of it can be read from the nearest key frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goku_core.media.faults import MediaError, plain
from goku_core.media.packets import demuxed, read_packets
from goku_core.media.probe import open_container, video_stream

SOUND = ("mov", "matroska")  # containers with an index and times of display


@contextmanager
def remuxed(path: Path, target: Path) -> Iterator[Path]:
    """Writes the video track of ``path`` to ``target`` (MP4) and gives ``target``; it goes again if the block raises.

    The same bytes every time. Raises `MediaError` "timestamps" where the packets' times cannot stand in an MP4, and
    "truncated" where not every packet arrives.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        written = _copy(path, partial)
        _verify(partial, written)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    try:
        yield target
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _copy(path: Path, target: Path) -> int:
    import av

    written = 0
    options = {"fflags": "+bitexact", "movflags": "+faststart"}
    try:
        with open_container(path) as source, av.open(str(target), "w", options=options) as copy:
            track = video_stream(source)
            stream = copy.add_stream_from_template(track)
            for packet in _timed(path, source, track):
                packet.stream = stream
                copy.mux_one(packet)
                written += 1
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError("timestamps", f"packet {written} cannot be copied into an MP4: {plain(error)}") from error
    return written


def _timed(path: Path, source: Any, track: Any) -> Iterator[Any]:
    """Packets of the track, in the order of decoding, with times of decoding and display."""
    packets = (packet for packet in demuxed(source, track) if packet.size > 0 and packet.dts is not None)
    if source.format.name != "avi":
        yield from packets
        return
    places = _places(path)
    kept = list(packets)  # compressed: as large as the file
    times = [packet.dts for packet in kept]
    # Nothing may be shown before it is decoded: decoding starts as much earlier as the order needs.
    delay = max(times[number] - times[place] for number, place in enumerate(places))
    for number, packet in enumerate(kept):
        packet.pts, packet.dts = times[places[number]], times[number] - delay
        yield packet


def _places(path: Path) -> list[int]:
    """The how-manieth frame on the screen each packet becomes. Only a decoder knows: here the file is decoded once more."""
    import av

    shown: list[int] = []
    number = 0
    with open_container(path) as source:
        track = video_stream(source)
        track.codec_context.thread_count = 1
        for packet in demuxed(source, track):
            if packet.size > 0 and packet.dts is not None:
                packet.pts = packet.dts = number  # comes out again with the frame
                number += 1
            elif packet.dts is not None:
                continue
            try:
                shown += [frame.pts for frame in track.decode(packet if packet.size else None)]
            except av.error.FFmpegError as error:
                raise MediaError("truncated", f"packet {number} does not decode: {plain(error)}") from error
    if sorted(name for name in shown if name is not None) != list(range(number)):
        raise MediaError("timestamps", f"{number} packets became {len(shown)} frames: their order cannot be told")
    return _inverse(shown)


def _inverse(shown: list[int]) -> list[int]:
    places = [0] * len(shown)
    for place, number in enumerate(shown):
        places[number] = place
    return places


def _verify(copy: Path, written: int) -> None:
    if written == 0:
        raise MediaError("truncated", "there is no packet to copy")
    with open_container(copy) as container:
        found = len(read_packets(container, video_stream(container)).times)
    if found != written:
        raise MediaError("truncated", f"{found} of {written} packets arrived in the copy")
