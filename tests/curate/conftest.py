"""Small files with known faults, and a raw.parquet that speaks of them."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HEIGHT, WIDTH, FPS = 480, 640, 24

RAW_SCHEMA = pa.schema(
    [
        ("media_id", pa.string()),
        ("uri", pa.string()),
        ("kind", pa.string()),
        ("bytes", pa.int64()),
        ("caption", pa.string()),
        ("captions", pa.list_(pa.struct([("start", pa.float64()), ("end", pa.float64()), ("text", pa.string())]))),
        ("outcome", pa.string()),
        ("filter", pa.string()),
        ("message", pa.string()),
    ]
)


class Painter:
    """Draws frames: grounds with soft texture and a disc, each seed another scene."""

    def ground(self, seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(60, 200, (5, 7, 3)).astype(np.uint8)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)

    def disc(self, image: np.ndarray, x: float, seed: int, radius: float = 0.2) -> np.ndarray:
        color = [int(c) for c in np.random.default_rng(seed + 1).choice([20, 235], 3)]
        height, width = image.shape[:2]
        centre = (round(x * width), height // 2)
        return cv2.circle(image.copy(), centre, round(radius * height), color, -1, cv2.LINE_AA)

    def moving(self, seed: int, seconds: float = 2.5, fps: int = FPS) -> Iterator[np.ndarray]:
        """A disc that crosses 40 % of the width in 2 s."""
        ground = self.ground(seed)
        for index in range(round(seconds * fps)):
            yield self.disc(ground, 0.25 + 0.2 * index / fps, seed)

    def static(self, seed: int, seconds: float = 4.5, grain: float = 8.0) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(seed)
        still = self.disc(self.ground(seed), 0.5, seed).astype(np.float32)
        for _ in range(round(seconds * FPS)):
            yield np.clip(still + rng.normal(0, grain, (HEIGHT, WIDTH, 1)), 0, 255).astype(np.uint8)

    def shaking(self, seed: int, seconds: float = 4.5) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(seed)
        large = self.disc(self.ground(seed, HEIGHT + 160, WIDTH + 160), 0.5, seed)
        for _ in range(round(seconds * FPS)):
            y, x = rng.integers(0, 161, 2)
            yield large[y : y + HEIGHT, x : x + WIDTH]

    def grainy(self, frames: Any, grain: float = 5.0) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for image in frames:
            yield np.clip(image + rng.normal(0, grain, (*image.shape[:2], 1)), 0, 255).astype(np.uint8)

    def text(self, image: np.ndarray) -> np.ndarray:
        return cv2.putText(image.copy(), "SUBSCRIBE NOW", (30, 300), 0, 2.2, (250, 250, 250), 6, cv2.LINE_AA)

    def film(self, seeds: list[int], seconds: float = 2.5) -> Iterator[np.ndarray]:
        for seed in seeds:
            yield from self.moving(seed, seconds)


class Library:
    """A workspace under construction: files and the rows that `collect` would write for them."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.raw = workspace / "data" / "raw"
        self.raw.mkdir(parents=True)
        self.rows: list[dict[str, Any]] = []

    def video(
        self, name: str, frames: Any, fps: int = FPS, codec: str = "libx264", kbps: int = 900, **row: Any
    ) -> Path:
        path = self.raw / name
        with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
            options = {}
            if codec == "libx264":  # filled up to a constant rate, so that plain pictures pass the gate
                rate = f"nal-hrd=cbr:vbv-maxrate={kbps}:vbv-bufsize={kbps}"
                options = {"preset": "ultrafast", "x264-params": rate}
            stream = container.add_stream(codec, rate=fps, options=options)
            stream.pix_fmt, stream.bit_rate = "yuv420p", kbps * 1000
            for index, image in enumerate(frames):
                if index == 0:
                    stream.height, stream.width = image.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        return self.add(path, "video", **row)

    def image(self, name: str, image: np.ndarray, quality: int = 92, **row: Any) -> Path:
        path = self.raw / name
        assert cv2.imwrite(str(path), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        return self.add(path, "image", **row)

    def bytes(self, name: str, data: bytes, kind: str = "video") -> Path:
        path = self.raw / name
        path.write_bytes(data)
        return self.add(path, kind)

    def add(self, path: Path, kind: str, caption: str | None = None, captions: Any = ()) -> Path:
        data = path.read_bytes()
        row = {"media_id": hashlib.sha256(data).hexdigest(), "kind": kind, "bytes": len(data)}
        row |= {"uri": path.relative_to(self.workspace).as_posix(), "caption": caption, "captions": list(captions)}
        self.rows.append(row | {"outcome": "kept", "filter": None, "message": None})
        return path

    def write(self) -> Path:
        rows = sorted(self.rows, key=lambda row: row["uri"])
        pq.write_table(pa.Table.from_pylist(rows, schema=RAW_SCHEMA), self.workspace / "data" / "raw.parquet")
        return self.workspace


@pytest.fixture(scope="session")
def painter() -> Painter:
    return Painter()


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "workspace")


@pytest.fixture(scope="session")
def new_library() -> Callable[[Path], Library]:
    return Library
