"""The one decode path: frames of a span, a clip sampled at a rate, a picture. Pixels are uint8 RGB, upright.

Spans are integers in the stream's own time base, end exclusive. Reading goes forward only, after at most one
seek to the key frame before the span: decoders that are asked to jump back return stale frames. Downscaling
averages areas (OpenCV ``INTER_AREA``), which neither rings nor aliases. Pixels that are not square are stretched in
width; what is transparent lies on white; more than 8 bits are rounded to 8.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from goku_core.media import planes
from goku_core.media.faults import MediaError, plain
from goku_core.media.packets import demuxed
from goku_core.media.planes import resize
from goku_core.media.probe import MAX_PIXELS, open_container, pixel_aspect, square_width, video_stream

# Share of frames in which the decoder had to make up picture. What refers to them is spoiled too, and not marked: one
# place in a hundred seconds is let pass, no more.
MOST_DAMAGED = 0.005
MOST_LOST = 0.1  # share of frames whose time is missing or not later than the one before; a few come from cutting


class Frame:
    """One decoded frame. Pixels are converted when asked for, so that an unused frame costs nothing."""

    __slots__ = ("_aspect", "_frame", "_rotation", "pts", "time_base")

    def __init__(
        self, frame: Any, pts: int, time_base: Fraction, aspect: Fraction = Fraction(1), rotation: int | None = None
    ) -> None:
        self._frame = frame
        self._aspect = aspect  # width of a stored pixel over its height
        self._rotation = rotation  # of a copy, which does not carry the original's side data
        self.pts = pts
        self.time_base = time_base

    def at(self, pts: int, time_base: Fraction) -> Frame:
        """The same pixels at another time."""
        return Frame(self._frame, pts, time_base, self._aspect, self._rotation)

    def small(self, longest: int) -> Frame:
        """A copy of square pixels whose longer side has at most ``longest`` px (to an even number); itself where it is no
        larger."""
        height, width = self._stored_size()
        if max(height, width) <= longest:
            return self
        scale = longest / max(height, width)
        sides = tuple(max(2, round(side * scale / 2) * 2) for side in (height, width))
        if _has_alpha(self._frame.format.name):
            import av

            copy = av.VideoFrame.from_ndarray(resize(self._colors(), *sides), format="rgb24")
        else:
            copy = planes.shrunk(self._frame, *sides)
        return Frame(copy, self.pts, self.time_base, rotation=self.rotation)

    @property
    def rotation(self) -> int:
        """Degrees counterclockwise that the stored frame is turned for display."""
        return int(self._frame.rotation) if self._rotation is None else self._rotation

    @property
    def seconds(self) -> float:
        return float(self.pts * self.time_base)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as shown: square pixels, after rotation."""
        height, width = self._stored_size()
        return (width, height) if self.rotation % 180 else (height, width)

    def rgb(self, height: int | None = None, width: int | None = None) -> np.ndarray:
        """uint8 (H, W, 3). With a size: exactly that size, the whole frame, proportions not kept."""
        return self._finish(self._colors(), height, width)

    def grey(self, height: int | None = None, width: int | None = None) -> np.ndarray:
        """Luma, uint8 (H, W). For the usual formats the stored plane itself: no colour conversion is paid."""
        frame = self._frame
        if _has_alpha(frame.format.name):
            import cv2

            image = cv2.cvtColor(self._colors(), cv2.COLOR_RGB2GRAY)
        else:
            stored = frame.format.name in planes.LUMA_PLANE
            image = planes.plane(frame, 0) if stored else frame.to_ndarray(format="gray")
            if height is not None and width is not None:
                image = planes.shrink(image, *((width, height) if self.rotation % 180 else (height, width)))
        return self._finish(image, height, width)

    def thumbnail(self, factor: int) -> np.ndarray:
        """uint8 RGB, ``factor`` times smaller, stored orientation: for comparing frames with one another.

        Averages the stored planes over tiles (where the factor is a multiple of 3, over three rows of each) before
        converting: 0.15 ms at 1080p, where `rgb` with a size takes 12. Up to two tiles at the right and lower edge are
        left out; BT.601 is assumed.
        """
        if _has_alpha(self._frame.format.name):
            height, width = (max(2, side // factor // 2 * 2) for side in (self._frame.height, self._frame.width))
            return resize(self._colors(), height, width)
        return planes.thumbnail(self._frame, factor)

    def _stored_size(self) -> tuple[int, int]:
        """(height, width) of square pixels, before rotation."""
        return self._frame.height, square_width(self._frame.width, self._aspect)

    def _colors(self) -> np.ndarray:
        """RGB as stored; what is transparent lies on white, as in pictures."""
        if not _has_alpha(self._frame.format.name):
            return self._frame.to_ndarray(format="rgb24")
        image = self._frame.to_ndarray(format="rgba").astype(np.uint16)
        alpha = image[..., 3:]
        return ((image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)

    def _finish(self, image: np.ndarray, height: int | None, width: int | None) -> np.ndarray:
        # Resize before turning: the smaller picture is the cheaper one to turn.
        turns = round(self.rotation / 90) % 4
        if height is None or width is None:
            image = resize(image, *self._stored_size())
        else:
            image = resize(image, *((width, height) if turns % 2 else (height, width)))
        return np.ascontiguousarray(np.rot90(image, turns) if turns else image)


@lru_cache(maxsize=64)
def _has_alpha(name: str) -> bool:
    from av.video.format import VideoFormat

    pixels = VideoFormat(name)
    return pixels.has_palette or any(component.is_alpha for component in pixels.components)


def frames(
    path: str | Path, start_pts: int | None = None, end_pts: int | None = None, threads: int = 1
) -> Iterator[Frame]:
    """Frames with ``start_pts <= pts < end_pts`` in the order they are shown.

    Raises `MediaError` ("unreadable", "no-video", "truncated" when packets do not decode or end too early; when a whole
    file is read also "timestamps" where more than a tenth of its frames has no place in time, and "damaged").
    """
    decoded = _decode(path, start_pts, threads)
    first = next(decoded, None)
    if start_pts is not None and (first is None or first.pts > start_pts):
        # The seek landed behind its aim (loosely indexed containers), or nothing is there: read from the top.
        decoded.close()
        decoded = _decode(path, None, threads)
        first = next(decoded, None)
    for frame in chain([] if first is None else [first], decoded):
        if end_pts is not None and frame.pts >= end_pts:
            return
        if start_pts is None or frame.pts >= start_pts:
            yield frame


def key_frames(path: str | Path) -> Iterator[Frame]:
    """Only frames where decoding may begin; the others are not decoded. 20 to 180 times cheaper than all of them.

    Raises `MediaError` as `frames` does.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        stream.codec_context.skip_frame = "NONKEY"
        yield from _timed(container, stream)


def _decode(path: str | Path, aim: int | None, threads: int) -> Generator[Frame, None, None]:
    """All frames from the key frame at or before ``aim``, timestamps rising."""
    import av

    with open_container(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = threads
        stream.thread_type = "SLICE" if threads == 1 else "AUTO"
        sought = aim is not None and aim > (stream.start_time or 0)
        if sought:
            try:
                container.seek(aim, stream=stream, backward=True)
            except av.error.FFmpegError:
                sought = False  # a file without an index: it is read from where it stands, the top
        yield from _timed(container, stream, sought)


def _timed(container: Any, stream: Any, sought: bool = False) -> Generator[Frame, None, None]:
    """Decoded frames with rising timestamps.

    ``sought``: reading began at some key frame. What is shown before that frame may refer to frames that were never
    read (open groups of pictures): the decoder conceals it, we leave it out.
    """
    import av

    time_base, aspect = Fraction(stream.time_base), pixel_aspect(stream)
    # AVI stores no times of display: frames follow one another in the order in which they leave the decoder.
    by_order = container.format.name == "avi"
    last: int | None = None
    lost = shown = damaged = 0
    whole = not sought
    try:
        for frame in (frame for packet in demuxed(container, stream) for frame in packet.decode()):
            if frame.width * frame.height > MAX_PIXELS:
                raise MediaError("too-large", f"a frame of {frame.width}x{frame.height} pixels")
            if sought and not frame.key_frame:
                continue
            sought = False
            pts = frame.dts if by_order or frame.pts is None else frame.pts
            if by_order and pts is None and last is not None:
                pts = last + 1  # the last ones come when there is no packet any more; a tick is a frame
            if pts is None or (last is not None and pts <= last):
                lost += 1  # no place in time: cannot belong to a span
                continue
            last = pts
            shown += 1
            damaged += frame.is_corrupt
            yield Frame(frame, pts, time_base, aspect)
    except av.error.FFmpegError as error:
        at = "the start" if last is None else f"{float(last * time_base):.2f} s"
        raise MediaError("truncated", f"decoding stopped after {at}: {plain(error)}") from error
    if whole and damaged > MOST_DAMAGED * shown:
        raise MediaError("damaged", f"{damaged} of {shown} frames are damaged")
    if lost > MOST_LOST * (lost + shown):
        raise MediaError("timestamps", f"{lost} of {lost + shown} frames have no time of their own")


def read_clip(
    path: str | Path,
    start_pts: int,
    end_pts: int,
    fps: float,
    count: int,
    height: int,
    width: int,
    first: float = 0.0,
    threads: int = 1,
) -> np.ndarray:
    """uint8 (T, height, width, 3), T <= count: what the screen shows ``first + k / fps`` s into the span.

    Frames are scaled to cover (height, width) and cropped at the centre. T is smaller than ``count`` where
    the span is too short. A source slower than ``fps`` repeats frames. No frame outside the span is shown.

    Raises `MediaError`: see `frames`, and "truncated" when the span holds no frame at all.
    """
    if fps <= 0 or count < 1 or height < 1 or width < 1 or first < 0:
        raise ValueError(f"need fps, count, sides > 0, first >= 0; got {fps}, {count}, {height}x{width}, {first}")
    clip = list(stream_clip(path, start_pts, end_pts, fps, count, height, width, first, threads))
    return np.stack(clip) if clip else np.empty((0, height, width, 3), np.uint8)


def stream_clip(
    path: str | Path,
    start_pts: int,
    end_pts: int,
    fps: float,
    count: int,
    height: int,
    width: int,
    first: float = 0.0,
    threads: int = 1,
) -> Iterator[np.ndarray]:
    """The frames of `read_clip` one after the other, so that a long clip never lies in memory as a whole."""

    def targets(time_base: Fraction) -> list[int]:
        return _targets(start_pts, end_pts, fps, count, first, time_base)

    return (image for _, image in _covering(_shown_at(path, start_pts, end_pts, targets, threads), height, width))


def shown_frames(path: str | Path, start_pts: int, end_pts: int, fps: float, count: int) -> Iterator[Frame]:
    """The frames of `read_clip` as they are decoded: whoever wants them small converts fewer pixels."""

    def targets(time_base: Fraction) -> list[int]:
        return _targets(start_pts, end_pts, fps, count, 0.0, time_base)

    return (frame for _, frame in _shown_at(path, start_pts, end_pts, targets, threads=1))


def read_windows(
    path: str | Path,
    start_pts: int,
    end_pts: int,
    fps: float,
    count: int,
    height: int,
    width: int,
    firsts: Sequence[float],
    threads: int = 1,
) -> list[np.ndarray]:
    """`read_clip` from each of ``firsts``, all of them from one decode."""
    windows: list[list[int]] = []

    def targets(time_base: Fraction) -> list[int]:
        windows[:] = [_targets(start_pts, end_pts, fps, count, first, time_base) for first in firsts]
        return sorted({moment for window in windows for moment in window})

    found = dict(_covering(_shown_at(path, start_pts, end_pts, targets, threads), height, width))
    clips = [[found[moment] for moment in window if moment in found] for window in windows]
    return [np.stack(clip) if clip else np.empty((0, height, width, 3), np.uint8) for clip in clips]


def _shown_at(
    path: str | Path,
    start_pts: int,
    end_pts: int,
    moments: Callable[[Fraction], list[int]],
    threads: int,
) -> Iterator[tuple[int, Frame]]:
    """Each of the rising moments (ticks, given the time base) with the frame that is on the screen then."""
    shown: Frame | None = None
    targets: list[int] = []
    given = 0
    step = 0  # ticks between the last two frames
    for frame in frames(path, start_pts, None, threads):
        if frame.pts >= end_pts:
            break
        if shown is None:
            targets = moments(frame.time_base)
        else:
            step = frame.pts - shown.pts
        # The frame on the screen at a moment is the last one whose timestamp is not after it.
        while given < len(targets) and frame.pts > targets[given]:
            yield targets[given], shown or frame
            given += 1
        shown = frame
        if given == len(targets):
            return
    else:  # the file ended within the span: its last frame stays for one step, not for ever
        if shown is not None:
            targets = [target for target in targets if target < shown.pts + max(1, step)]
    if shown is None:
        raise MediaError("truncated", f"no frame between timestamps {start_pts} and {end_pts}")
    for target in targets[given:]:
        yield target, shown


def _covering(shown: Iterator[tuple[int, Frame]], height: int, width: int) -> Iterator[tuple[int, np.ndarray]]:
    """Moments with pixels, see `cover`; of a frame that is shown again the same array."""
    last: Frame | None = None
    image = np.empty((0, 0, 3), np.uint8)
    for moment, frame in shown:
        if frame is not last:
            last, image = frame, cover(frame.rgb(), height, width)
        yield moment, image


def _targets(start: int, end: int, fps: float, count: int, first: float, time_base: Fraction) -> list[int]:
    """Sampling moments in ticks, to the nearest one: millisecond containers round their frames too."""
    rate = Fraction(fps).limit_denominator(100_000)
    offset = Fraction(first).limit_denominator(1_000_000)
    moments = (start + round((offset + k / rate) / time_base) for k in range(count))
    return [moment for moment in moments if moment < end]


def read_image(path: str | Path, height: int | None = None, width: int | None = None) -> np.ndarray:
    """uint8 (H, W, 3), EXIF rotation applied, transparency laid on white. With a size: see `cover`.

    Raises `MediaError` ("empty", "unreadable", "truncated", "too-large").
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if path.stat().st_size == 0:
        raise MediaError("empty", "the file has zero bytes")
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MediaError("too-large", f"{image.width}x{image.height} pixels")
            image.load()
            pixels = _pixels(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise MediaError("unreadable", "not a picture file that can be read") from error
    except Image.DecompressionBombError as error:
        raise MediaError("too-large", str(error)) from error
    except (OSError, ValueError, SyntaxError) as error:
        error_class = "truncated" if "truncated" in str(error).lower() else "unreadable"
        raise MediaError(error_class, f"the picture does not decode: {plain(error)}") from error
    return pixels if height is None or width is None else cover(pixels, height, width)


def _pixels(image: Any) -> np.ndarray:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return np.array(image.convert("RGB"))


def cover(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale so that (height, width) is covered, then cut the centre out. Proportions are kept."""
    rows, columns = image.shape[:2]
    # Crop first, in source pixels: the same picture as scaling first, and only what remains is scaled.
    if rows * width > columns * height:
        keep = max(1, round(columns * height / width))
        top = (rows - keep) // 2
        image = image[top : top + keep]
    else:
        keep = max(1, round(rows * width / height))
        left = (columns - keep) // 2
        image = image[:, left : left + keep]
    return np.ascontiguousarray(resize(image, height, width))
