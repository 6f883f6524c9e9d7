"""Facts of good files, and one error class for each way in which a file is broken."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from goku_core.media.probe import MediaError, probe


def error_class(path: Path) -> str:
    with pytest.raises(MediaError) as caught:
        probe(path)
    assert caught.value.message
    return caught.value.error_class


def test_video(make_video) -> None:
    info = probe(make_video(count=48, fps=24))
    assert (info.kind, info.codec, info.height, info.width) == ("video", "h264", 96, 160)
    assert info.fps == 24 and info.frames == 48 and info.seconds == pytest.approx(2.0)
    assert info.bitrate_kbps > 1 and info.rotation == 0 and info.time_base < Fraction(1, 24)


@pytest.mark.parametrize("name, codec", [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")])
def test_other_containers(make_video, name: str, codec: str) -> None:
    info = probe(make_video(name, codec=codec))
    assert info.seconds == pytest.approx(2.0, abs=0.1) and info.bitrate_kbps > 0 and info.fps == 24


def test_rotation_swaps_sides(make_video) -> None:
    info = probe(make_video(rotation=90))
    assert (info.height, info.width) == (160, 96) and abs(info.rotation) == 90


def test_picture_and_its_exif_rotation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    info = probe(tmp_path / "a.jpg")
    assert (info.kind, info.codec, info.height, info.width) == ("image", "jpeg", 30, 20)


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    assert error_class(tmp_path / "a.mp4") == "empty"


@pytest.mark.parametrize("name", ["a.mp4", "a.jpg", "a.mkv"])
def test_renamed_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is a shopping list\n" * 400)
    assert error_class(tmp_path / name) == "unreadable"


def test_play_list_is_not_followed(tmp_path: Path, make_video) -> None:
    make_video("a.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    assert error_class(tmp_path / "list.mp4") == "unreadable"


def test_random_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    assert error_class(tmp_path / "a.mp4") == "unreadable"


def test_index_missing(make_video, tmp_path: Path) -> None:
    whole = make_video().read_bytes()  # the index is written last
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert error_class(tmp_path / "cut.mp4") == "truncated"


def test_cut_behind_the_index(make_video, tmp_path: Path) -> None:
    whole = make_video(movflags="+faststart").read_bytes()
    assert whole.find(b"moov") < whole.find(b"mdat")
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    assert error_class(tmp_path / "cut.mp4") == "truncated"


def test_cut_avi(make_video, tmp_path: Path) -> None:
    whole = make_video("a.avi", codec="mpeg4").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 2 // 3])
    assert error_class(tmp_path / "cut.avi") == "truncated"


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        for _ in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert error_class(path) == "no-video"


def test_too_large(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    assert error_class(tmp_path / "bomb.png") == "too-large"
