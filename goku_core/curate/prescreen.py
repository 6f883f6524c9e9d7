"""Before everything is decoded: a look at the key frames, 20 to 180 times cheaper, for sources of which nothing would stay.

Blank, a slide show, covered with text. What a key frame shows says nothing about the frames between, so each verdict
needs a second witness, and where that is missing the source passes on: the full pass judges.

Stillness shows in the packets between key frames: one that repeats the frame before costs about 40 bytes (x264, 480x640;
36 to 38 measured from ultrafast to slow, CRF 20 to 28), little beside a key frame. Pictures that change every 3 s had no
bits beyond that and 0.0002 to 0.0003 of a key frame. The least motion that the motion filter passes, small and before
much detail, had at least 0.0027 bits per pixel beyond it and 0.0012 of a key frame; at CRF 40, where it nears the first
bound, 0.002 to 0.005 of a key frame. Both must hold. For blank sources and for text the witness is that key frames lie so
near together that every clip holds one.

It saves decoding and is never a filter of its own: where the tiers admit stills (motion from 0) or as much text, nothing
is turned away for that here. Near-duplicates among sources are not looked for: which of two copies is the better one is
known only with the scores of the full pass, so they are left to the deduplication of clips.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from goku_core.curate.gate import Verdict
from goku_core.curate.request import Prescreen, Request
from goku_core.media.decode import Frame, key_frames
from goku_core.media.packets import Packets
from goku_core.media.probe import MediaInfo

HEIGHT = 256  # px: luma of key frames is compared at this height
TEXT_SIDE = 960  # px, longest side given to the text detector, as in the full pass
INTER_SHARE = 0.5  # of packets that must not be key frames: all-intra codecs say nothing by their sizes
REPEAT_BYTES = 40  # what a frame costs that only says "as before"
STEPS = 4  # stretches begin this often within one length


def screen(path: Path, info: MediaInfo, request: Request) -> Verdict | None:
    """The verdict against a video of which no clip could stay, or None: pass on. Decodes key frames only.

    Raises `MediaError` where the key frames cannot be decoded.
    """
    settings, packets = request.prescreen, info.packets
    if not settings.enabled or packets is None or int(packets.keys.sum()) < settings.min_key_frames:
        return None
    stills_go = all(tier.motion_min > 0 for tier in request.tiers.values())
    bound = max(settings.text_coverage, *(tier.ocr_max for tier in request.tiers.values()))
    near = _spacing(packets) <= settings.max_spacing_seconds + 1 / max(1.0, float(info.fps))
    rest = _between(packets, request.min_clip_seconds) if stills_go else None
    bits = 8 * max(0.0, rest - REPEAT_BYTES) / (info.width * info.height) if rest is not None else None
    still = bits is not None and bits <= settings.still_bits
    if still and rest <= settings.still_share * float(packets.sizes[packets.keys].mean()):
        text = f"stands still between its {int(packets.keys.sum())} key frames ({rest:.0f} bytes a frame at most)"
        return Verdict("prescreen_still", bits, settings.still_bits, text)
    if not near and not still:
        return None
    watch = _Watch(settings, blank=stills_go, text=bound if near and bound < 1 else None)
    for frame in key_frames(path):
        if not watch.goes_on(frame):  # most sources cost one look
            return None
    return watch.verdict()


class _Watch:
    """What all key frames so far have in common: blank, or covered with text by more than `text` (None: not asked)."""

    def __init__(self, settings: Prescreen, blank: bool, text: float | None) -> None:
        self._settings, self._blank, self._text = settings, blank, text
        self._looked, self._contrast, self._coverage = 0, 0.0, 1.0

    def goes_on(self, frame: Frame) -> bool:
        """False as soon as nothing is left that they have in common."""
        self._looked += 1
        if self._blank:
            self._contrast = max(self._contrast, _contrast(frame))
            self._blank = self._contrast <= self._settings.blank_contrast
        if self._text is not None and not self._blank:
            if self._looked > 1 and self._coverage == 1.0:
                self._text = None  # the ones before were blank
                return False
            self._coverage = min(self._coverage, _coverage(frame, self._text))
            if self._coverage <= self._text:
                self._text = None
        return self._blank or self._text is not None

    def verdict(self) -> Verdict | None:
        if self._looked < self._settings.min_key_frames:
            return None
        if self._blank:
            most, bound = self._contrast, self._settings.blank_contrast
            text = f"is blank on all {self._looked} key frames (luma varies by {most:.1f} of 255 at most)"
            return Verdict("prescreen_black", most, bound, text)
        text = f"is covered with text on all {self._looked} key frames, by {self._coverage:.3f} of the frame at least"
        return Verdict("prescreen_text", self._coverage, float(self._text or 0.0), text)


def _between(packets: Packets, seconds: float) -> float | None:
    """Mean bytes of a packet between key frames, in the stretch of this length that has the most; None: unknown.

    Of each stretch the largest tenth is left out: the change from one slide to the next. Motion that lasts cannot hide
    there. Unknown where most packets are key frames.
    """
    if packets.keys.mean() > 1 - INTER_SHARE:
        return None
    order = np.argsort(packets.times, kind="stable")
    times, sizes = packets.times[order][~packets.keys[order]], packets.sizes[order][~packets.keys[order]]
    length = max(1, round(seconds / packets.time_base))
    least = 0.5 * seconds * float(packets.rate)  # frames; a stretch that the end cuts off counts if half of it is there
    most = None
    every = max(1, round(seconds * float(packets.rate) / STEPS))  # by packets: their times may lie years apart
    for start in times[::every]:
        first, behind = np.searchsorted(times, (start, start + length))
        if behind - first >= max(1, least):
            stretch = np.sort(sizes[first:behind])
            most = max(most or 0.0, float(stretch[: max(1, round(0.9 * len(stretch)))].mean()))
    return most


def _spacing(packets: Packets) -> float:
    """Longest time between two key frames, or from the last one to the end, s."""
    times = np.sort(packets.times[packets.keys])
    end = int(packets.times.min()) + packets.ticks
    return float(int(np.diff(np.append(times, end)).max()) * packets.time_base)


def _contrast(frame: Frame) -> float:
    height, width = frame.size
    return float(frame.grey(HEIGHT, max(16, round(width * HEIGHT / height))).std())


def _coverage(frame: Frame, bound: float) -> float:
    from goku_core.curate.scores.text import text_meter

    height, width = frame.size
    scale = min(1.0, TEXT_SIDE / max(height, width))
    return text_meter().coverage(frame.rgb(round(height * scale), round(width * scale)), bound)
