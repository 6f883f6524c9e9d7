"""Repair: a source that is not H.264 becomes H.264 once, in the same pass that scores it (paper section 4.3: "then
everything is re-encoded to H.264"; our choice: what is H.264 already is never encoded again).
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from goku_core.media.decode import Frame
from goku_core.media.encode import SAME_BYTES

TIME_BASE = Fraction(1, 90_000)  # MPEG's clock: holds 24, 25, 30 and 24000/1001 frames/s without drift
CRF = "18"  # our choice: visually transparent; this is the copy that everything later reads
GOP_SECONDS = 2


class Transcoder:
    """Writes frames to an H.264 MP4, keeping their times. One thread and no dates: the same bytes every time.

    Use as a context manager; the file appears under its name only when everything went well.
    """

    def __init__(self, path: Path, fps: Fraction) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._fps = fps if fps > 0 else Fraction(24)
        self._container: Any = None
        self._stream: Any = None
        self._first: Fraction | None = None
        self._last = -1

    def __enter__(self) -> Transcoder:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, frame: Frame) -> Frame:
        """Encodes a frame (upright, sides cut to even) and returns it with its time in the new file."""
        import av

        image = frame.rgb()
        image = np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
        moment = frame.pts * frame.time_base
        if self._first is None:
            self._first = moment
            self._open(*image.shape[:2])
        pts = max(self._last + 1, round((moment - self._first) / TIME_BASE))
        self._last = pts
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        picture.pts, picture.time_base = pts, TIME_BASE
        self._container.mux(self._stream.encode(picture))
        return frame.at(pts, TIME_BASE)

    def _open(self, height: int, width: int) -> None:
        import av

        options = {"fflags": "+bitexact", "movflags": "+faststart", "video_track_timescale": str(TIME_BASE.denominator)}
        self._container = av.open(str(self._partial), "w", options=options)
        self._stream = self._container.add_stream(
            "libx264", rate=self._fps.limit_denominator(1001), options={"preset": "veryfast", "crf": CRF, **SAME_BYTES}
        )
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        context = self._stream.codec_context
        context.time_base = TIME_BASE
        context.gop_size = max(1, round(float(self._fps) * GOP_SECONDS))
        context.thread_count = 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._container is not None:
                if kind is None:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
            if kind is None and self._container is not None:
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)
