"""Encoded files: same frames same bytes, right rate and size, bitrate near the target, clear errors."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from goku_core.media.encode import write_image, write_video
from goku_core.pipeline.errors import GokuError
from goku_core.scenes.draw import draw
from goku_core.scenes.scene import sample_scene


def moving(count: int, height: int = 96, width: int = 160, noise: float = 0.0) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for i in range(count):
        frame = np.full((height, width, 3), 120.0)
        frame[20:60, 10 + 2 * i : 50 + 2 * i] = (220, 40, 40)
        yield np.clip(frame + noise * rng.standard_normal((height, width, 1)), 0, 255).astype(np.uint8)


def test_round_trip_keeps_rate_size_count_and_colour(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    assert write_video(path, moving(12), Fraction(24000, 1001), crf=12) == 12
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == Fraction(24000, 1001)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == 12 and frames[0].shape == (96, 160, 3)
    assert np.abs(frames[0][30:50, 20:40].mean((0, 1)) - (220, 40, 40)).max() < 8
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".mp4"), ("libx265", ".mp4"), ("libvpx-vp9", ".webm")])
def test_same_frames_same_bytes(tmp_path: Path, codec: str, suffix: str) -> None:
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / f"v{suffix}"
        write_video(path, moving(8), 24, codec=codec)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_bitrate_target_is_met_on_grain(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, moving(72, noise=6.0), 24, bitrate_kbps=400)
    assert path.stat().st_size * 8 / 3 / 1000 == pytest.approx(400, rel=0.25)


def test_header_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, moving(8), 24)
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_errors_name_the_fault_and_leave_nothing(tmp_path: Path) -> None:
    for frames, said in (
        (iter(()), "no frames"),
        (moving(2, height=95), "odd side"),
        (iter([*moving(1), *moving(1, height=64)]), "not"),
        (iter([np.zeros((4, 4), np.uint8)]), "RGB"),
    ):
        with pytest.raises(GokuError, match=said):
            write_video(tmp_path / "a.mp4", frames, 24)
    with pytest.raises(GokuError, match="gif"):
        write_image(tmp_path / "a.gif", np.zeros((4, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_images(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    picture = next(moving(1))
    path = tmp_path / f"a{suffix}"
    write_image(path, picture, quality=95)
    read = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert np.abs(read[30:50, 20:40].mean((0, 1)) - (220, 40, 40)).max() < 6


def test_bytes_do_not_depend_on_what_memory_held_before(tmp_path):
    """At 96x96 the encoder's macroblock trees once read beyond the frame."""
    draws = np.random.default_rng(1)
    scene = sample_scene(np.random.default_rng(0), "motion")
    frames = [draw(scene, 96, 96, time=t / 8) for t in range(9)]
    seen = set()
    for _ in range(12):
        junk = [np.frombuffer(draws.bytes(int(n)), np.uint8).copy() for n in draws.integers(1000, 400_000, 40)]
        del junk
        write_video(tmp_path / "a.mp4", frames, 8.0, crf=16)
        seen.add((tmp_path / "a.mp4").read_bytes())
    assert len(seen) == 1
