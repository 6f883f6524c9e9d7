"""Textured procedural footage, and copies of it as they come under other names: re-encoded, scaled, cropped, shifted, ...

A scene is a textured ground, seen by a camera that drifts or rests, with things moving over it. `take` changes the things
and their ways only: two takes before one ground look much alike and are no copies.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

FPS = 8  # enough for samples 0.5 s apart; codecs see larger steps between frames than usual
Frames = list[np.ndarray]
# Copies that must be found, and harder ones that are reported beside them.
PLANTED = ("re-encoded", "scaled to half", "scaled to 1.5", "cropped 5 %", "shifted 0.5 s")
BESIDES = ("letterboxed", "brighter", "cropped 10 %", "all of it", "logo", "5 frames/s")
KINDS = PLANTED + BESIDES


@dataclass(frozen=True)
class Scene:
    """ground, take  seeds; same ground and other take: the same place at another time"""

    ground: int
    take: int = 0
    height: int = 270
    width: int = 480

    def frames(self, seconds: float, start: float = 0.0) -> Frames:
        """uint8 (H, W, 3), `FPS` per second, of the moments from ``start`` s on."""
        draw = self._painter()
        return [draw(start + index / FPS) for index in range(round(seconds * FPS))]

    def _painter(self) -> Callable[[float], np.ndarray]:
        rng = np.random.default_rng([7, self.ground])
        high, wide = round(self.height * 1.6), round(self.width * 1.6)
        ground = _texture(rng, high, wide)
        # Half of the cameras rest, the others drift by up to 4 % of the frame's width in a second.
        speed = rng.uniform(-0.04, 0.04, 2) * self.width * rng.integers(0, 2)
        origin = np.array([0.3 * self.height, 0.3 * self.width]) - 4.0 * speed
        own = np.random.default_rng([8, self.ground, self.take])
        things = [_Thing(own, self.height, self.width) for _ in range(own.integers(2, 5))]

        def draw(moment: float) -> np.ndarray:
            y, x = origin + speed * moment
            move = np.float64([[1, 0, x], [0, 1, y]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            image = cv2.warpAffine(ground, move, (self.width, self.height), flags=flags, borderMode=cv2.BORDER_REFLECT)
            for thing in things:
                thing.draw(image, moment)
            return image

        return draw


class _Thing:
    """A textured disc or box that crosses the frame and comes back."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        size = round(rng.uniform(0.12, 0.35) * height)
        self._skin = _texture(rng, size, size)
        self._mask = np.zeros((size, size, 1), bool)
        if rng.random() < 0.5:
            rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
            self._mask[..., 0] = rows**2 + columns**2 < (size / 2) ** 2
        else:
            self._mask[:] = True
        self._room = np.array([height - size, width - size], float)
        self._place, self._speed = rng.uniform(0, 1, 2), rng.uniform(-0.2, 0.2, 2)

    def draw(self, image: np.ndarray, moment: float) -> None:
        there = (self._place + self._speed * moment) % 2.0
        y, x = np.rint(np.where(there > 1, 2 - there, there) * self._room).astype(int)
        size = len(self._skin)
        part = image[y : y + size, x : x + size]
        np.copyto(part, self._skin, where=self._mask)


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Coloured noise of several sizes around a colour: walls, woods, crowds, skies."""
    image = np.full((height, width, 3), rng.uniform(50, 205, 3), np.float32)
    strength = rng.uniform(20, 60)
    for cells in (3, 6, 13, 29, 61):
        grey = rng.normal(0, strength, (cells, cells, 1)).repeat(3, axis=2) + rng.normal(
            0, strength / 3, (cells, cells, 3)
        )
        image += cv2.resize(grey.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        strength *= rng.uniform(0.4, 0.9)
    return np.clip(image, 0, 255).astype(np.uint8)


def recoded(frames: Frames, crf: int = 32) -> Frames:
    """Through x264 and back."""
    import av

    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"preset": "veryfast", "crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt, stream.thread_count = height, width, "yuv420p", 1
        for image in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def scaled(frames: Frames, factor: float) -> Frames:
    shrink = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return [cv2.resize(image, None, fx=factor, fy=factor, interpolation=shrink) for image in frames]


def cropped(frames: Frames, share: float, rng: np.random.Generator) -> Frames:
    """A window somewhere in the frame that lacks ``share`` of its height and of its width."""
    height, width = frames[0].shape[:2]
    rows, columns = round(height * (1 - share)), round(width * (1 - share))
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    return [image[top : top + rows, left : left + columns] for image in frames]


def letterboxed(frames: Frames, share: float = 0.12) -> Frames:
    """Black bars above and below, each ``share`` of the height."""
    bar = round(len(frames[0]) * share)
    return [cv2.copyMakeBorder(image, bar, bar, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0)) for image in frames]


def brightened(frames: Frames, gain: float = 1.12, lift: float = 8.0) -> Frames:
    return [np.clip(image * gain + lift, 0, 255).astype(np.uint8) for image in frames]


def marked(frames: Frames) -> Frames:
    """A station's logo in a corner, half of it shining through."""
    height, width = frames[0].shape[:2]
    place = np.s_[height // 20 : height // 20 + height // 9, width - width // 20 - width // 7 : width - width // 20]
    logo = np.full((*frames[0][place].shape[:2], 3), (200, 30, 40), np.uint8)
    cv2.putText(
        logo, "TV 5", (2, len(logo) - 6), cv2.FONT_HERSHEY_SIMPLEX, len(logo) / 36, (250, 250, 250), 2, cv2.LINE_AA
    )
    found = [image.copy() for image in frames]
    for image in found:
        image[place] = (image[place].astype(np.uint16) + logo) // 2
    return found


def slowed(frames: Frames, fps: int) -> Frames:
    """What a copy of ``fps`` frames/s shows at the moments of these: each frame for longer, none between."""
    shown = (int(index * fps / FPS) * FPS / fps for index in range(len(frames)))
    return [frames[int(index)] for index in shown]


def copies(scene: Scene, seconds: float, seed: int, kinds: Iterable[str] | None = None) -> dict[str, Frames]:
    """The planted near-duplicates of one clip, by kind (`KINDS`); every one of them is encoded besides."""
    rng = np.random.default_rng([9, scene.ground, scene.take, seed])
    frames = scene.frames(seconds)
    later = scene.frames(seconds, start=0.5)
    made: dict[str, Callable[[], Frames]] = {
        "re-encoded": lambda: recoded(frames, 34),
        "scaled to half": lambda: recoded(scaled(frames, 0.5), 24),
        "scaled to 1.5": lambda: recoded(scaled(frames, 1.5), 26),
        "cropped 5 %": lambda: recoded(cropped(frames, 0.05, rng), 24),
        "shifted 0.5 s": lambda: recoded(later, 24),
        "letterboxed": lambda: recoded(letterboxed(frames), 24),
        "brighter": lambda: recoded(brightened(frames), 24),
        "cropped 10 %": lambda: recoded(cropped(frames, 0.10, rng), 24),
        "all of it": lambda: recoded(brightened(scaled(cropped(later, 0.05, rng), 0.7), 1.06, 4), 28),
        "logo": lambda: recoded(marked(frames), 24),
        "5 frames/s": lambda: recoded(slowed(frames, 5), 24),
    }
    return {kind: made[kind]() for kind in (made if kinds is None else kinds)}
