"""Before everything is decoded: a look at the key frames, 20 to 180 times cheaper, for sources of which nothing would stay.

Black or blank, a slide show, covered with text. What a key frame shows says nothing about the frames between, so each
verdict needs a second witness. For stillness it is the size of the packets between: a frame that repeats the one before
costs a handful of bytes, and no encoder can write motion that the motion filter would pass in that few. For text it is
that the key frames lie near one another and all are covered. Where a witness is missing the source passes on: the full
pass judges. It is meant to save decoding, never to be a filter of its own: where the tiers would admit stills (motion
from 0) or text, nothing is turned away for that here.

Near-duplicates among sources are not looked for here: which of two copies is the better one is known only with the scores
of the full pass, so they are left to the deduplication of clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from goku_core.curate.gate import Verdict
from goku_core.curate.request import Prescreen, Request
from goku_core.media.decode import Frame, key_frames
from goku_core.media.packets import Packets
from goku_core.media.probe import MediaInfo

HEIGHT = 256  # px: luma of key frames is compared at this height
TEXT_SIDE = 960  # px, longest side given to the text detector, as in the full pass
INTER_SHARE = 0.5  # of packets that must not be key frames: all-intra codecs say nothing by their sizes


def screen(path: Path, info: MediaInfo, request: Request) -> Verdict | None:
    """The verdict against a video of which no clip could stay, or None: pass on. Decodes key frames only.

    Raises `MediaError` where the key frames cannot be decoded.
    """
    settings, packets = request.prescreen, info.packets
    if not settings.enabled or packets is None or int(packets.keys.sum()) < settings.min_key_frames:
        return None
    if not any(tier.motion_min <= 0 for tier in request.tiers.values()):
        bits = busiest(packets, info.width * info.height, request.min_clip_seconds)
        if bits is not None and bits <= settings.still_bits:
            return _unmoved(key_frames(path), bits, settings)
    return _covered(path, packets, request)


def busiest(packets: Packets, pixels: int, seconds: float) -> float | None:
    """Bits per pixel and frame between key frames, in the stretch of this length that has the most; None: unknown.

    Unknown where most packets are key frames, and where times are too coarse to tell stretches apart.
    """
    inter = ~packets.keys
    if inter.mean() < INTER_SHARE:
        return None
    order = np.argsort(packets.times, kind="stable")
    times, sizes, inter = packets.times[order], packets.sizes[order], inter[order]
    ends = np.searchsorted(times, times + round(seconds / packets.time_base), side="left")
    total = np.concatenate([[0], np.cumsum(sizes * inter)])
    count = np.concatenate([[0], np.cumsum(inter)])
    starts = np.arange(len(times))
    # A stretch that the end of the file cuts off counts too, as long as a good part of it is there.
    whole = count[ends] - count[starts] >= max(1, 0.5 * seconds * float(packets.rate))
    if not whole.any():
        return None
    mean = (total[ends] - total[starts])[whole] / (count[ends] - count[starts])[whole]
    return 8.0 * float(mean.max()) / pixels


def _unmoved(frames: Iterable[Frame], bits: float, settings: Prescreen) -> Verdict | None:
    """Nothing moves between key frames: is anything on them?"""
    contrasts = [_contrast(frame) for frame in frames]
    if len(contrasts) < settings.min_key_frames:
        return None
    if (most := max(contrasts)) <= settings.blank_contrast:
        text = f"is blank on all {len(contrasts)} key frames (luma varies by {most:.1f} of 255 at most)"
        return Verdict("prescreen_black", most, settings.blank_contrast, text)
    text = f"stands still between its {len(contrasts)} key frames ({bits:.5f} bits per pixel in the busiest stretch)"
    return Verdict("prescreen_still", bits, settings.still_bits, text)


def _contrast(frame: Frame) -> float:
    height, width = frame.size
    return float(frame.grey(HEIGHT, max(16, round(width * HEIGHT / height))).std())


def _covered(path: Path, packets: Packets, request: Request) -> Verdict | None:
    """Stops at the first key frame without text: most sources cost one look."""
    settings = request.prescreen
    bound = max(settings.text_coverage, *(tier.ocr_max for tier in request.tiers.values()))
    if bound >= 1 or _spacing(packets) > settings.text_spacing_seconds:
        return None
    least, looked = 1.0, 0
    for coverage in _coverages(key_frames(path), bound):
        least, looked = min(least, coverage), looked + 1
        if coverage <= bound:
            return None
    if looked < settings.min_key_frames:
        return None
    text = f"is covered with text on all {looked} key frames, by {least:.3f} of the frame at least"
    return Verdict("prescreen_text", least, bound, text)


def _spacing(packets: Packets) -> float:
    """Longest time between two key frames, or from the last one to the end, s."""
    times = np.sort(packets.times[packets.keys])
    end = int(packets.times.min()) + packets.ticks
    return float(int(np.diff(np.append(times, end)).max()) * packets.time_base)


def _coverages(frames: Iterable[Frame], bound: float) -> Iterator[float]:
    from goku_core.curate.scores.text import text_meter

    cv2.setNumThreads(1)
    for frame in frames:
        height, width = frame.size
        scale = min(1.0, TEXT_SIDE / max(height, width))
        yield text_meter().coverage(frame.rgb(round(height * scale), round(width * scale)), bound)
