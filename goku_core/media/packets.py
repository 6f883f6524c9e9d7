"""The packets of a video track: their times and sizes, read without decoding one.

MP4 and MOV tell them in their index, which is read with the header. Other containers are read through once, which costs
what reading the file costs. What a header claims of length, rate and bit rate is a claim; packets are what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from goku_core.media.faults import MediaError

LONGEST_SECONDS = 7 * 86_400  # our choice: a longer track is a jump in its times; sums of ticks would overflow
MOST_UNTIMED = 0.1  # share of packets without any time; a few are left behind by cutting


@dataclass(frozen=True)
class Packets:
    """Those that are shown, in the order of decoding (an edit list may hide others). Arrays (N,).

    times        int64, ticks of ``time_base``: decoding times where the container has an index, else times of display
    sizes        int64, bytes
    keys         bool, whether decoding may begin there
    ticks        length of the track, from the first packet to behind the last
    file_seconds length of the longest track of any kind, s; None where only the index was read
    """

    times: np.ndarray
    sizes: np.ndarray
    keys: np.ndarray
    time_base: Fraction
    ticks: int
    file_seconds: float | None

    @property
    def seconds(self) -> float:
        return float(self.ticks * self.time_base)

    @property
    def rate(self) -> Fraction:
        """Frames per second, measured; 0 where the track has no length."""
        return Fraction(len(self.times)) / (self.ticks * self.time_base) if self.ticks > 0 else Fraction(0)

    @property
    def kbps(self) -> float:
        """kbit/s of the track alone; 0 where it has no length."""
        return 8e-3 * float(self.sizes.sum()) / self.seconds if self.ticks > 0 else 0.0


def demuxed(container: Any, *streams: Any) -> Iterator[Any]:
    """Packets of an open container, of these streams only (none named: of all), and at the end an empty one of each.

    PyAV reads past the end of a list, and may raise IndexError, where FFmpeg has found further tracks on the way (a spoiled
    transport stream announces some). It does so behind the last packet of every track that was there from the start.
    """
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):
            return
        yield packet


def read_packets(container: Any, stream: Any) -> Packets:
    """Of an open container from which no packet has been taken yet.

    Raises `MediaError` "truncated" where there is no packet at all, "timestamps" where more than a tenth has no time or
    the times span more than a week.
    """
    index = stream.index_entries
    complete = container.format.name.startswith("mov") and len(index) == stream.frames > 0
    packets = _from_index(index, stream) if complete else _from_file(container, stream)
    if packets.seconds > LONGEST_SECONDS:
        raise MediaError("timestamps", f"the times of the track span {packets.seconds / 86_400:.0f} days")
    return packets


def _from_index(index: Any, stream: Any) -> Packets:
    shown = [entry for entry in index if not entry.is_discard]
    if not shown:
        raise MediaError("truncated", "the index names no frame that is shown")
    times = np.array([entry.timestamp for entry in shown], np.int64)
    ticks = stream.duration if stream.duration and stream.duration > 0 else _extent(times, 0)
    sizes = np.array([entry.size for entry in shown], np.int64)
    keys = np.array([entry.is_keyframe for entry in shown], bool)
    return Packets(times, sizes, keys, Fraction(stream.time_base), int(ticks), None)


def _from_file(container: Any, stream: Any) -> Packets:
    found: list[tuple[int, int, bool]] = []
    untimed, last = 0, 0
    first_second, last_second = float("inf"), 0.0
    # AVI stores no times of display; what FFmpeg fills in for them is wrong where frames are reordered.
    by_order = container.format.name == "avi"
    for packet in _until_damage(container):
        if packet.size == 0:
            continue  # the end of a track; in AVI "show the last one again"
        time = packet.dts if by_order or packet.pts is None else packet.pts
        if time is not None:
            moment = float(time * packet.time_base)
            first_second = min(first_second, moment)
            last_second = max(last_second, moment + float((packet.duration or 0) * packet.time_base))
        if packet.stream_index != stream.index or packet.is_discard:
            continue
        if time is None:
            untimed += 1
            continue
        found.append((time, packet.size, packet.is_keyframe))
        last = max(last, packet.duration or 0)
    if not found and not untimed:
        raise MediaError("truncated", "the header is readable, but no frame follows it")
    if untimed > MOST_UNTIMED * (untimed + len(found)):
        raise MediaError("timestamps", f"{untimed} of {untimed + len(found)} frames have no time in the file")
    times, sizes, keys = (np.array(column) for column in zip(*found, strict=True))
    times = times.astype(np.int64)
    length = max(0.0, last_second - first_second)
    return Packets(
        times, sizes.astype(np.int64), keys, Fraction(stream.time_base), _extent(times, last), length or None
    )


def _until_damage(container: Any) -> Iterator[Any]:
    """All packets. Damage ends them: what comes before it is told, and what is missing shows in the length."""
    import av

    with suppress(av.error.FFmpegError):
        yield from demuxed(container)


def _extent(times: np.ndarray, last: int) -> int:
    """Ticks from the first time to behind the last; ``last``: how long that one is shown, 0 where unknown."""
    span = int(times.max()) - int(times.min())
    return span + (last or round(span / max(1, len(times) - 1)))
