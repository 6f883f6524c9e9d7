"""Sampled frames of a source in one file: what models, captioners and the gallery see, so that nothing is decoded twice.

``<folder>/<media_id>.safetensors``: JPEGs one behind the other, where each begins, and their timestamps. Reading a few
frames of a span reads those and no others.
"""

from __future__ import annotations

import json
import shutil
import struct
from bisect import bisect_left
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from pydantic import BaseModel

from goku_core.pipeline.errors import GokuError

SPACING = 0.5  # s between two frames
LONG_SIDE = 448  # px at most: CLIP and DINOv2 look at 224, captioners at 448
QUALITY = 90  # of the JPEGs; about 30 kB a frame


def wanted(request: BaseModel) -> bool:
    """Whether a later step needs frames: a section of the request says so by a true property ``needs_frames``."""
    return any(getattr(getattr(request, name), "needs_frames", False) for name in type(request).model_fields)


def even_height(height: int, width: int, wanted: int) -> int:
    """Rows of a copy ``wanted`` px wide, even as video demands."""
    return max(2, round(height * wanted / width / 2) * 2)


class ProxyWriter:
    """Collects frames of one source. Use as a context manager: the file appears when everything went well."""

    def __init__(self, folder: Path, media_id: str, quality: int = QUALITY) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{media_id}.safetensors"
        self._partial, self._spool = (folder / f".{media_id}.{name}" for name in ("partial", "jpegs"))
        self._coding = [cv2.IMWRITE_JPEG_QUALITY, quality]
        self._times: list[int] = []
        self._ends: list[int] = [0]

    def __enter__(self) -> ProxyWriter:
        self._jpegs = self._spool.open("wb")  # to disk at once: an hour of frames would fill the memory
        return self

    def add(self, pts: int, rgb: np.ndarray) -> None:
        """A frame, uint8 (H, W, 3); timestamps rise."""
        if self._times and pts <= self._times[-1]:
            raise ValueError(f"timestamps must rise: {pts} after {self._times[-1]}")
        done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), self._coding)
        if not done:
            raise GokuError(f"{self._path.name}: a frame of shape {rgb.shape} cannot be written as JPEG")
        self._jpegs.write(data.tobytes())
        self._times.append(pts)
        self._ends.append(self._ends[-1] + len(data))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jpegs.close()
        try:
            if kind is None:
                self._join()
        finally:
            self._spool.unlink(missing_ok=True)
            self._partial.unlink(missing_ok=True)

    def _join(self) -> None:
        tables = [np.array(self._times, "<i8"), np.array(self._ends, "<i8")]
        header, start = {}, 0
        for name, table in zip(("times", "offsets"), tables, strict=True):
            header[name] = {"dtype": "I64", "shape": [len(table)], "data_offsets": [start, start + table.nbytes]}
            start += table.nbytes
        header["jpegs"] = {"dtype": "U8", "shape": [self._ends[-1]], "data_offsets": [start, start + self._ends[-1]]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with self._partial.open("wb") as file, self._spool.open("rb") as jpegs:
            file.write(struct.pack("<Q", len(text)) + text + b"".join(table.tobytes() for table in tables))
            shutil.copyfileobj(jpegs, file)
        self._partial.replace(self._path)


def read(folder: Path, media_id: str, start_pts: int, end_pts: int, most: int) -> list[tuple[int, np.ndarray]]:
    """At most ``most`` frames of a span, evenly spread over those that are there: (timestamp, uint8 RGB), in order.

    Timestamps are in ticks of the row's time base; a picture has one frame, at 0. Raises `GokuError` where the
    source's file is missing.
    """
    from safetensors import safe_open

    path = folder / f"{media_id}.safetensors"
    if not path.is_file():
        raise GokuError(f"{path}: the sampled frames of this source are missing; run `goku run curate` again")
    with safe_open(path, "numpy") as file:
        times = file.get_tensor("times").tolist()
        offsets = file.get_tensor("offsets").tolist()
        first, last = bisect_left(times, start_pts), bisect_left(times, end_pts)
        chosen = _spread(first, last, most)
        jpegs = file.get_slice("jpegs")
        return [(times[index], _picture(jpegs[offsets[index] : offsets[index + 1]])) for index in chosen]


def _spread(first: int, last: int, most: int) -> list[int]:
    """``most`` of the numbers from ``first`` to ``last`` (exclusive): the middles of as many equal parts."""
    count = last - first
    if count <= most:
        return list(range(first, last))
    return [first + (2 * part + 1) * count // (2 * most) for part in range(most)]


def _picture(data: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.asarray(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
