"""Procedural films with known shot boundaries: textured grounds under a moving camera, with things that move on them.

A film is a function of (class, seed, length): the same pictures, times and boundaries everywhere.

==============  ====================================================================================================
cut             hard cuts, 24 frames/s, calm to brisk camera
fade-black      fade out 0.3 to 1 s, up to 0.3 s of black, fade in; fade-white the same through white
dissolve        0.3 to 1.5 s, both shots going on meanwhile
vfr             hard cuts, the rate changes every half second or so between 12 and 60 frames/s
flash           hard cuts, and in every shot one or two flashes of one to three frames
shake           hard cuts, the camera held by an unsteady hand, up to 5 % of the frame from one frame to the next
motion          hard cuts, fast pans and zooms, large things passing close by
==============  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("cut", "fade-black", "fade-white", "dissolve", "vfr", "flash", "shake", "motion")
TICKS = 90_000
RATE = 24


@dataclass(frozen=True)
class Truth:
    """A boundary, in ticks of 1/90000 s: the first frame that is not the earlier shot's alone, and the first that is the
    later one's alone; the same for a cut."""

    start: int
    end: int


def repeat(path: Path, times: int, target: Path) -> None:
    """A film several times one behind the other, without encoding it again: length for measuring costs."""
    import av

    with av.open(str(target), "w", options={"video_track_timescale": str(TICKS)}) as container:
        shift, stream = 0, None
        for _ in range(times):
            with av.open(str(path)) as source:
                video = source.streams.video[0]
                stream = stream or container.add_stream_from_template(video)
                length = video.duration
                for packet in source.demux(video):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        container.mux(packet)
            shift += length


class Scene:
    """One place and the camera in it: `at` gives the picture of any moment."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, kind: str) -> None:
        self.height, self.width = height, width
        self.canvas = _ground(rng, 2 * height, 2 * width)
        brisk = {"motion": 1.0, "shake": 0.1}.get(kind, 0.3)
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35) * brisk
        self.speed = speed * width * np.array([np.cos(angle), 0.5 * np.sin(angle)])  # px/s
        self.zoom = rng.uniform(-0.25, 0.25) * brisk  # share per second
        self.jitter = 0.05 * width if kind == "shake" else 0.0
        self.noise = np.random.default_rng(rng.integers(1 << 32))
        self.things = [_thing(rng, height, kind) for _ in range(rng.integers(1, 4))]

    def at(self, seconds: float) -> np.ndarray:
        """uint8 (height, width, 3), seconds since the shot began."""
        scale = np.exp(self.zoom * seconds)
        centre = np.array([self.width, self.height]) + self.speed * seconds
        if self.jitter:
            centre = centre + self.noise.uniform(-1, 1, 2) * self.jitter / 2
        left, top = centre - np.array([self.width, self.height]) / (2 * scale)
        matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        image = cv2.warpAffine(self.canvas, matrix, (self.width, self.height), borderMode=cv2.BORDER_REFLECT_101)
        for place, speed, size, patch in self.things:
            x, y = (place + speed * seconds) * self.width
            side = max(4, int(size * self.height))
            _paste(image, cv2.resize(patch, (side, side)), int(x % (self.width + side)) - side, int(y % self.height))
        grain = self.noise.normal(0, 2.0, image.shape[:2]).astype(np.int16)
        return np.clip(image.astype(np.int16) + grain[..., None], 0, 255).astype(np.uint8)


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise of several sizes between the colours of a palette, and shapes on it."""
    share = np.zeros((height, width), np.float32)
    for cells, weight in ((3, 1.0), (8, 0.6), (24, 0.4), (80, 0.25)):
        grid = rng.normal(0, 1, (cells, 2 * cells)).astype(np.float32)
        share += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    share = np.clip((share - share.min()) / np.ptp(share), 0, 1)
    palette = rng.integers(10, 245, (4, 3)).astype(np.float32)
    places = np.array([0.25, 0.45, 0.55, 0.75])
    image = np.stack([np.interp(share, places, palette[:, channel]) for channel in range(3)], axis=-1)
    image = np.ascontiguousarray(image.astype(np.uint8))
    for _ in range(30):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        x, y, size = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(height // 40, height // 8))
        if rng.random() < 0.5:
            cv2.circle(image, (x, y), size, colour, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(image, (x, y), (x + size, y + 2 * size), colour, -1)
    return image


def _thing(rng: np.random.Generator, height: int, kind: str) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    large = kind == "motion"
    speed = rng.uniform(-0.4, 0.4, 2) * (1.5 if large else 0.5)
    patch = cv2.resize(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
    return rng.uniform(0, 1, 2), speed, float(rng.uniform(0.3, 0.6) if large else rng.uniform(0.1, 0.25)), patch


def _paste(image: np.ndarray, patch: np.ndarray, x: int, y: int) -> None:
    top, left, bottom, right = max(0, y), max(0, x), min(len(image), y + len(patch)), min(len(image[0]), x + len(patch))
    if top < bottom and left < right:
        image[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]


@dataclass(frozen=True)
class Film:
    """kind: one of `CLASSES`; seed; shots: how many; height, width in px; preset and kbps (None: by quality) of x264."""

    kind: str
    seed: int
    shots: int = 8
    height: int = 272
    width: int = 480
    preset: str = "veryfast"
    kbps: int | None = None

    def write(self, path: Path) -> list[Truth]:
        """Encodes it as H.264 MP4 and returns its boundaries."""
        import av

        quality = {} if self.kbps else {"crf": "20"}
        with av.open(str(path), "w", options={"video_track_timescale": str(TICKS)}) as container:
            stream = container.add_stream("libx264", rate=RATE, options={"preset": self.preset, **quality})
            if self.kbps:
                stream.bit_rate = self.kbps * 1000
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            stream.codec_context.time_base = Fraction(1, TICKS)
            stream.codec_context.thread_count = 1
            plan = self._plan()
            for pts, image in self._frames(plan):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = pts, Fraction(1, TICKS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return plan.truths

    def _plan(self) -> _Plan:
        rng = np.random.default_rng([CLASSES.index(self.kind), self.seed])
        plan = _Plan(np.random.default_rng(rng.integers(1 << 32)), self.kind)
        now = 0
        for number in range(self.shots):
            length = int(rng.integers(round(1.6 * RATE), 4 * RATE)) + (plan.marks[-1][1] if plan.marks else 0)
            out, hold, back = self._transition(rng) if number < self.shots - 1 else (0, 0, 0)
            plan.begins.append(now)
            end = now + length
            plan.marks.append((end, out, hold, back))
            flashes = rng.integers(RATE // 2, length - RATE // 2, rng.integers(1, 3)) if self.kind == "flash" else ()
            plan.flashes += [(now + int(at), int(rng.integers(1, 4))) for at in flashes]
            now = end + out + hold if self.kind != "dissolve" else end
        plan.clock(now, rng)
        return plan

    def _transition(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Frames of the way out, of the blank, of the way back."""
        if self.kind == "dissolve":
            return int(rng.integers(round(0.3 * RATE), round(1.5 * RATE))), 0, 0
        if self.kind.startswith("fade"):
            out, back = rng.integers(round(0.3 * RATE), RATE + 1, 2)
            return int(out), int(rng.integers(0, round(0.3 * RATE) + 1)), int(back)
        return 0, 0, 0

    def _frames(self, plan: _Plan) -> Iterator[tuple[int, np.ndarray]]:
        scenes = {0: Scene(plan.rng, self.height, self.width, self.kind)}
        for index, pts in enumerate(plan.times):
            number = max(n for n, begin in enumerate(plan.begins) if begin <= index)
            for wanted in (number, number + 1):
                if wanted not in scenes and wanted < self.shots:
                    scenes[wanted] = Scene(plan.rng, self.height, self.width, self.kind)
            yield pts, self._picture(plan, scenes, index, number)

    def _picture(self, plan: _Plan, scenes: dict[int, Scene], index: int, number: int) -> np.ndarray:
        def at(shot: int) -> np.ndarray:
            return scenes[shot].at((plan.times[index] - plan.times[plan.begins[shot]]) / TICKS)

        end, out, _, _ = plan.marks[number]
        blank = 255.0 if self.kind == "fade-white" else 0.0
        if self.kind == "dissolve":
            earlier_out = plan.marks[number - 1][1] if number else 0
            if index < plan.begins[number] + earlier_out:
                share = (index - plan.begins[number] + 1) / (earlier_out + 1)
                return (share * at(number) + (1 - share) * at(number - 1)).astype(np.uint8)
            return at(number)
        if self.kind.startswith("fade"):
            back = plan.marks[number - 1][3] if number else 0
            share = 1.0
            if index < plan.begins[number] + back:
                share = (index - plan.begins[number] + 1) / (back + 1)
            elif index >= end:
                share = max(0.0, 1 - (index - end + 1) / (out + 1))
            return (share * at(number) + (1 - share) * blank).astype(np.uint8)
        image = at(number)
        if any(start <= index < start + length for start, length in plan.flashes):
            return np.clip(image.astype(np.int16) + 140, 0, 255).astype(np.uint8)
        return image


@dataclass
class _Plan:
    """Frame numbers: where shots begin, where each one's way out begins and how long out, blank and back are."""

    rng: np.random.Generator
    kind: str
    begins: list[int] = field(default_factory=list)
    marks: list[tuple[int, int, int, int]] = field(default_factory=list)
    flashes: list[tuple[int, int]] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    def clock(self, frames: int, rng: np.random.Generator) -> None:
        """Timestamps of all frames."""
        if self.kind != "vfr":
            self.times = [index * TICKS // RATE for index in range(frames)]
            return
        now = 0
        while len(self.times) < frames:
            step = TICKS // int(rng.choice([12, 15, 24, 30, 60]))
            for _ in range(int(rng.integers(6, 20))):
                self.times.append(now)
                now += step
        self.times = self.times[:frames]

    @property
    def truths(self) -> list[Truth]:
        found = []
        for (end, out, _, back), begin in zip(self.marks[:-1], self.begins[1:], strict=True):
            over = begin + (out if self.kind == "dissolve" else back)
            found.append(Truth(self.times[end], self.times[over]))
        return found
