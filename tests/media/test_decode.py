"""The right frames, upright, of the right size; and never one too many."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from goku_core.media.decode import cover, frames, read_clip, read_image, resize
from goku_core.media.probe import MediaError


def ticks(path: Path, index: int) -> int:
    """Timestamp of frame ``index`` of a 24 fps file."""
    first = next(frames(path))
    return round(Fraction(index, 24) / first.time_base)


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9")])
def test_a_span_has_exactly_its_frames(make_video, name: str, codec: str, number) -> None:
    path = make_video(name, codec=codec, count=60)
    # From the middle of a group of pictures to the middle of another one.
    span = [number(f.rgb()) for f in frames(path, ticks(path, 17), ticks(path, 43))]
    assert span == list(range(17, 43))


def test_whole_file_and_last_frame(make_video, number) -> None:
    path = make_video(count=50)
    assert [number(f.grey()[:, :, None]) for f in frames(path)] == list(range(50))
    assert [number(f.rgb()) for f in frames(path, ticks(path, 49))] == [49]


def test_end_is_exclusive(make_video, number) -> None:
    path = make_video()
    assert number(list(frames(path, 0, ticks(path, 12)))[-1].rgb()) == 11
    assert number(list(frames(path, 0, ticks(path, 12) + 1))[-1].rgb()) == 12


def test_read_clip_samples_what_is_on_the_screen(make_video, number) -> None:
    path = make_video(count=96)
    clip = read_clip(path, ticks(path, 24), ticks(path, 72), fps=12, count=17, height=48, width=80)
    assert clip.shape == (17, 48, 80, 3) and clip.dtype == np.uint8
    assert [number(f) for f in clip] == list(range(24, 58, 2))
    later = read_clip(path, ticks(path, 24), ticks(path, 72), 12, 3, 48, 80, first=0.5)
    assert [number(f) for f in later] == [36, 38, 40]
    slow = read_clip(path, 0, ticks(path, 12), fps=8, count=4, height=48, width=80)
    assert [number(f) for f in slow] == [0, 3, 6, 9]


def test_read_clip_of_a_short_span_never_leaves_it(make_video, number) -> None:
    path = make_video(count=96)
    clip = read_clip(path, ticks(path, 24), ticks(path, 34), fps=12, count=17, height=48, width=80)
    assert [number(f) for f in clip] == [24, 26, 28, 30, 32]
    fast = read_clip(path, ticks(path, 24), ticks(path, 28), fps=48, count=50, height=48, width=80)
    assert [number(f) for f in fast] == [24, 24, 25, 25, 26, 26, 27, 27]


def test_read_clip_of_a_millisecond_container(make_video, number) -> None:
    path = make_video("a.mkv", count=96)
    clip = read_clip(path, ticks(path, 24), ticks(path, 72), fps=24, count=40, height=48, width=80)
    assert [number(f) for f in clip] == list(range(24, 64))


def test_read_clip_ends_with_the_file(make_video, number) -> None:
    path = make_video(count=24)
    clip = read_clip(path, 0, ticks(path, 500), fps=12, count=17, height=48, width=80)
    assert [number(f) for f in clip] == list(range(0, 24, 2))
    assert read_clip(path, 0, ticks(path, 12), 12, 5, 48, 80, first=0.5).shape == (0, 48, 80, 3)
    assert number(read_clip(path, ticks(path, 23), ticks(path, 24), 12, 1, 48, 80)[0]) == 23


def test_empty_span_is_an_error(make_video) -> None:
    path = make_video(count=24)
    with pytest.raises(MediaError):
        read_clip(path, ticks(path, 100), ticks(path, 120), 12, 5, 48, 80)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(make_video, rotation: int, number) -> None:
    path = make_video(rotation=rotation, count=8)
    frame = list(frames(path))[5]
    upright = np.rot90(frame.rgb(), -rotation // 90)  # undo it: the stored frame must come back
    assert number(upright) == 5
    assert frame.rgb().shape[:2] == frame.size == ((160, 96) if rotation % 180 else (96, 160))
    assert frame.rgb(30, 20).shape == (30, 20, 3) and frame.grey(30, 20).shape == (30, 20)


def test_thumbnail(make_video, number) -> None:
    frame = list(frames(make_video(count=24)))[21]
    small = frame.thumbnail(3)
    assert small.shape == (32, 52, 3) and number(small) == 21
    assert abs(small.astype(int) - frame.rgb()[:96, :156].reshape(32, 3, 52, 3, 3).mean((1, 3))).max() < 6


def test_damaged_packets_are_an_error_or_fewer_frames(make_video, tmp_path: Path, number) -> None:
    data = bytearray(make_video("a.mkv", count=48).read_bytes())
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    try:
        seen = [number(f.rgb()) for f in frames(tmp_path / "cut.mkv")]
    except MediaError as error:
        assert error.error_class == "truncated"
    else:
        assert 0 < len(seen) < 48 and seen == list(range(len(seen)))


def test_read_image(tmp_path: Path, number, numbered) -> None:
    picture = numbered(0b10110001)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    Image.fromarray(np.rot90(picture)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    read = read_image(tmp_path / "a.jpg")
    assert read.shape == picture.shape and number(read) == 0b10110001
    assert read_image(tmp_path / "a.jpg", 40, 40).shape == (40, 40, 3)


def test_read_image_kinds(tmp_path: Path) -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()
    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    assert (read_image(tmp_path / "deep.png") == 128).all()
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == 77).all()


def test_broken_images(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "none.jpg").write_bytes(b"")
    classes = []
    for name in ("cut.jpg", "text.jpg", "none.jpg"):
        with pytest.raises(MediaError) as caught:
            read_image(tmp_path / name)
        classes.append(caught.value.error_class)
    assert classes == ["truncated", "unreadable", "empty"]


def test_cover_keeps_proportions_and_the_centre() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:200] = 255
    assert (cover(image, 50, 50) == 255).all()
    tall = np.rot90(image)
    assert (cover(tall, 50, 50) == 255).all()


def test_shrinking_averages_areas() -> None:
    board = np.zeros((64, 64), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 200
    assert (resize(board, 8, 8) == 100).all()
