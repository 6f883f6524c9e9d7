"""Small files for the media tests, written with PyAV directly: reading is not judged by our own writing."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

HEIGHT, WIDTH = 96, 160


def draw_number(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A frame that says its number in light and dark blocks, robust against lossy coding (8 bits)."""
    image = np.full((height, width, 3), 128, np.uint8)
    for bit in range(8):
        left = bit * width // 8
        image[:, left : left + width // 8] = 220 if index >> bit & 1 else 30
    return image


def read_number(image: np.ndarray) -> int:
    """Read back what `draw_number` wrote."""
    width = image.shape[1]
    middles = [image[:, bit * width // 8 : (bit + 1) * width // 8].mean() for bit in range(8)]
    return sum(1 << bit for bit, value in enumerate(middles) if value > 128)


@pytest.fixture
def numbered() -> Callable[..., np.ndarray]:
    return draw_number


@pytest.fixture
def number() -> Callable[[np.ndarray], int]:
    return read_number


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    def make(
        name: str = "video.mp4",
        count: int = 48,
        fps: int = 24,
        codec: str = "libx264",
        gop: int = 12,
        rotation: int = 0,
        size: tuple[int, int] = (HEIGHT, WIDTH),
        **container_options: str,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options=container_options) as container:
            stream = container.add_stream(codec, rate=fps)
            stream.height, stream.width = size
            stream.pix_fmt = "yuv420p"
            stream.codec_context.gop_size = gop
            if rotation:
                stream.set_display_rotation(rotation)
            for index in range(count):
                frame = av.VideoFrame.from_ndarray(draw_number(index, *size), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make
