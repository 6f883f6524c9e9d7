"""Whatever the wild holds, made here by PyAV: each case is handled in a way that docs/media.md names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from goku_core.curate.gate import judge
from goku_core.curate.request import Gate
from goku_core.media.decode import frames, read_image
from goku_core.media.faults import MediaError
from goku_core.media.packets import demuxed
from goku_core.media.probe import probe

GATE = Gate(min_seconds=1, min_side=64, min_kbps=1)
KEY = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76" * 16, "encryption_kid": "a7" * 16}


def noise(index: int, height: int = 96, width: int = 160) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (height, width, 3), np.uint8)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A file of `count` frames; `times` in 1/1000 s, `stream` is called with the video stream before encoding."""

    def make(
        name: str,
        codec: str = "libx264",
        count: int = 48,
        pixels: str = "yuv420p",
        size: tuple[int, int] = (96, 160),
        times: Iterable[int] | None = None,
        stream: Callable | None = None,
        sound: bool = False,
        coding: dict[str, str] | None = None,
        images: Callable[[int], np.ndarray] | None = None,
        **container: str,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options=container) as output:
            track = output.add_stream(codec, rate=24, options=coding or {})
            (track.height, track.width), track.pix_fmt = size, pixels
            if times is not None:
                track.codec_context.time_base = Fraction(1, 1000)
            if stream is not None:
                stream(track)
            voice = output.add_stream("pcm_s16le" if name.endswith("mkv") else "aac", rate=48000) if sound else None
            moments = list(times) if times is not None else None
            for index in range(count):
                image = images(index) if images else noise(index // 6, *size)
                frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
                if moments is not None:
                    frame.pts, frame.time_base = moments[index], Fraction(1, 1000)
                output.mux(track.encode(frame))
            output.mux(track.encode())
            for index in range(94 if voice else 0):
                samples = np.random.default_rng(index).integers(-9000, 9000, (1, 2048)).astype(np.int16)
                tone = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
                tone.sample_rate, tone.pts = 48000, index * 1024
                output.mux(voice.encode(tone))
            if voice:
                output.mux(voice.encode())
        return path

    return make


def fault(path: Path) -> MediaError:
    with pytest.raises(MediaError) as caught:
        probe(path)
    assert len(caught.value.message) > 10
    return caught.value


def packet_bytes(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(packet.size for packet in container.demux(container.streams.video[0]))


@pytest.mark.parametrize(
    "name, codec, container",
    [
        ("a.mp4", "libx264", "mov"),
        ("a.mov", "prores", "mov"),
        ("a.mkv", "libx265", "matroska"),
        ("a.webm", "libvpx-vp9", "matroska"),
        ("a.avi", "mpeg4", "avi"),
        ("a.ts", "libx264", "mpegts"),
        ("a.mpg", "mpeg2video", "mpeg"),
        ("a.flv", "flv", "flv"),
    ],
)
def test_containers_tell_length_rate_and_bit_rate_of_the_track(write, name: str, codec: str, container: str) -> None:
    pixels = "yuv422p10le" if codec == "prores" else "yuv420p"
    path = write(name, codec, pixels=pixels)
    info = probe(path)
    assert info.container == container and info.fps == pytest.approx(24, rel=0.01)
    assert info.seconds == pytest.approx(2.0, abs=0.05)
    assert info.bitrate_kbps == pytest.approx(8e-3 * packet_bytes(path) / info.seconds, rel=0.01)
    assert judge(info, GATE) is None and len(list(frames(path))) == 48


def test_a_wrong_name_changes_nothing(write) -> None:
    path = write("a.ts")
    assert probe(path.rename(path.with_suffix(".mp4"))).container == "mpegts"


def test_missing_bit_rate_is_that_of_the_picture_alone(write) -> None:
    """Matroska writes none; the file has ten times more sound than picture."""
    path = write("a.mkv", sound=True, images=lambda index: np.full((96, 160, 3), 90, np.uint8))
    info = probe(path)
    assert info.bitrate_kbps == pytest.approx(8e-3 * packet_bytes(path) / info.seconds, rel=0.01)
    assert info.bitrate_kbps < 0.1 * 8e-3 * path.stat().st_size / info.seconds


def test_length_and_rate_of_a_live_recording_without_either(write) -> None:
    path = write("a.mkv", live="1")
    with av.open(str(path)) as container:
        assert container.duration is None and container.streams.video[0].duration is None
    assert probe(path).seconds == pytest.approx(2.0, abs=0.05) and probe(path).fps == pytest.approx(24, rel=0.01)


def test_fragmented(write) -> None:
    info = probe(write("a.mp4", movflags="frag_keyframe+empty_moov+default_base_moof"))
    assert info.seconds == pytest.approx(2.0, abs=0.05) and info.fps == pytest.approx(24, rel=0.01)


def test_variable_frame_rate_is_its_average(write) -> None:
    times = np.cumsum([0, *([20, 20, 85] * 16)])[:48].tolist()
    for name in ("a.mp4", "a.mkv"):
        path = write(name, times=times)
        assert [round(1000 * f.seconds) for f in frames(path)] == pytest.approx(times, abs=1)
        assert float(probe(path).fps) == pytest.approx(24, rel=0.03)


def test_a_gap_in_time_lowers_the_rate(write) -> None:
    """One hour without a frame: it lasts that long, and its rate is what the screen shows."""
    path = write("a.mkv", times=[index * 42 + (3_600_000 if index > 24 else 0) for index in range(48)])
    info = probe(path)
    assert info.seconds > 3600 and judge(info, Gate(min_side=64, min_kbps=0)).filter == "fps"


def test_times_that_span_years_are_a_failure(write) -> None:
    path = write("a.mkv", times=[index * 42 + (10**9 if index > 24 else 0) for index in range(48)])
    assert fault(path).error_class == "timestamps"


def test_frames_before_the_beginning_are_hidden_in_mp4_and_a_failure_in_matroska(write) -> None:
    """MP4 says so in its edit list, and players skip them; in Matroska a fifth of the frames has no time at all."""
    times = [index * 42 - 420 for index in range(48)]
    path = write("a.mp4", times=times, avoid_negative_ts="disabled")
    shown = list(frames(path))
    assert len(shown) == 38 and shown[0].pts >= 0
    assert probe(path).seconds == pytest.approx(38 * 0.042, abs=0.06) and probe(path).fps == pytest.approx(24, rel=0.02)
    assert fault(write("a.mkv", times=times, avoid_negative_ts="disabled")).error_class == "timestamps"


def test_times_that_fall_back_are_a_failure(write, tmp_path: Path) -> None:
    """Two transport streams in a row: the second one starts at zero again."""
    whole = write("a.ts", "mpeg2video").read_bytes()
    (tmp_path / "twice.ts").write_bytes(whole + whole)
    with pytest.raises(MediaError) as caught:
        list(frames(tmp_path / "twice.ts"))
    assert caught.value.error_class == "timestamps"


def test_one_frame_is_too_short(write) -> None:
    for name in ("a.mp4", "a.mkv"):
        info = probe(write(name, count=1))
        assert info.seconds < 0.1 and judge(info, GATE).filter == "seconds"


def test_no_frames(write, tmp_path: Path) -> None:
    data = write("a.mp4", movflags="frag_keyframe+empty_moov").read_bytes()
    (tmp_path / "head.mp4").write_bytes(data[: data.find(b"moof") - 4])
    assert fault(tmp_path / "head.mp4").error_class == "truncated"


@pytest.mark.parametrize("name", ["cut.mkv", "cut.webm", "cut.flv"])
def test_cut_files_are_found_before_they_are_decoded(write, name: str) -> None:
    codec = {"cut.webm": "libvpx-vp9", "cut.flv": "flv"}.get(name, "libx264")
    path = write(name, codec, count=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert fault(path).error_class == "truncated"


def test_made_up_picture_is_a_failure(write) -> None:
    """The decoder conceals holes and marks the frames; who reads a span gets what is there."""
    path = write("a.mkv", images=noise)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size > 2000]
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    for packet in packets[10:40:3]:
        at = data.find(bytes(packet)) + packet.size // 3
        data[at : at + 200] = rng.bytes(200)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        marked = [frame.is_corrupt for frame in container.decode(container.streams.video[0])]
    assert 0 < sum(marked) < len(marked) == 48
    with pytest.raises(MediaError) as caught:
        list(frames(path))
    assert (caught.value.error_class, str(sum(marked)) in caught.value.message) == ("damaged", True)
    assert len(list(frames(path, 1))) > 20


def test_encrypted(write) -> None:
    """Real common encryption, the index in front and behind."""
    for options in (KEY, KEY | {"movflags": "+faststart"}):
        assert fault(write("a.mp4", **options)).error_class == "encrypted"


def test_words_of_a_title_are_no_encryption(write) -> None:
    path = write("a.mp4")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Lavf", b"encv", 1))
    assert data.count(b"Lavf") and probe(path).kind == "video"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_sound_with_a_cover(tmp_path: Path, name: str) -> None:
    Image.fromarray(noise(0)).save(tmp_path / "cover.jpg")
    with av.open(str(tmp_path / name), "w") as output:
        voice = output.add_stream("aac", rate=48000)
        if name.endswith("mkv"):
            output.add_attachment("cover.jpg", "image/jpeg", (tmp_path / "cover.jpg").read_bytes())
        else:
            cover = output.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 160, 96, "yuvj420p"
            cover.disposition = Disposition.attached_pic
            output.mux(cover.encode(av.VideoFrame.from_ndarray(noise(0), format="rgb24")))
            output.mux(cover.encode())
        for index in range(20):
            tone = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            tone.sample_rate, tone.pts = 48000, index * 1024
            output.mux(voice.encode(tone))
        output.mux(voice.encode())
    found = fault(tmp_path / name)
    assert (found.error_class, "cover" in found.message) == ("no-video", True)


def test_of_several_tracks_the_largest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        tracks = []
        for height, width in ((48, 80), (96, 160), (96, 160)):
            tracks.append(output.add_stream("libx264", rate=24))
            tracks[-1].height, tracks[-1].width, tracks[-1].pix_fmt = height, width, "yuv420p"
        for index in range(48):
            for level, track in zip((10, 120, 240), tracks, strict=True):
                image = np.full((track.height, track.width, 3), level, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 24)
                output.mux(track.encode(frame))
        for track in tracks:
            output.mux(track.encode())
    assert (probe(path).height, probe(path).width) == (96, 160)
    assert {round(float(frame.rgb().mean()) / 60) for frame in frames(path)} == {2}  # the first of the two large ones


@pytest.mark.parametrize("aspect, width", [((4, 3), 213), ((8, 9), 142), ((1, 1), 160), ((1, 100), 160)])
def test_pixels_that_are_not_square(write, aspect: tuple[int, int], width: int) -> None:
    path = write("a.mp4", stream=lambda s: setattr(s.codec_context, "sample_aspect_ratio", Fraction(*aspect)))
    info, frame = probe(path), next(frames(path))
    assert (info.height, info.width) == (96, width) == frame.size == frame.rgb().shape[:2] == frame.grey().shape
    assert frame.rgb(48, 80).shape == (48, 80, 3)


def test_mirrored_or_slanted_is_not_shown_wrongly(write) -> None:
    mirrored = write("a.mp4", stream=lambda s: s.set_display_rotation(0, hflip=True))
    slanted = write("b.mp4", stream=lambda s: s.set_display_rotation(30))
    assert [fault(path).error_class for path in (mirrored, slanted)] == ["unsupported", "unsupported"]


def test_interlaced(write) -> None:
    mpeg2 = write("a.mpg", "mpeg2video", coding={"flags": "+ildct+ilme", "field_order": "tt"})
    h264 = write("a.mp4", coding={"x264-params": "tff=1"})
    for path in (mpeg2, h264):
        info = probe(path)
        assert info.interlaced and judge(info, GATE).filter == "interlaced"
        assert judge(info, GATE.model_copy(update={"interlaced": True})) is None


@pytest.mark.parametrize("curve, name", [(16, "pq"), (18, "hlg"), (1, "sdr")])
def test_dynamic_range(write, curve: int, name: str) -> None:
    path = write(
        "a.mkv",
        "libx265",
        pixels="yuv420p10le",
        coding={"x265-params": f"transfer={curve}:log-level=error"},
        stream=lambda s: setattr(s, "color_trc", curve),
    )
    info = probe(path)
    verdict = judge(info, GATE)
    assert info.transfer == name and (verdict.filter if verdict else None) == (None if name == "sdr" else "hdr")
    assert judge(info, GATE.model_copy(update={"hdr": True})) is None


def test_ten_bits_become_eight(write) -> None:
    path = write("a.mp4", "libx264", pixels="yuv420p10le", images=lambda index: np.full((96, 160, 3), 77, np.uint8))
    frame = next(frames(path))
    assert frame.rgb().dtype == np.uint8 and abs(int(frame.rgb().mean()) - 77) <= 2


def test_transparent_video_lies_on_white(write) -> None:
    clear = np.zeros((96, 160, 4), np.uint8)
    clear[:, 80:] = (200, 100, 50, 255)
    frame = next(frames(write("a.mov", "png", pixels="rgba", images=lambda index: clear)))
    assert (frame.rgb()[:, :80] == 255).all() and (frame.grey()[:, :80] == 255).all()
    assert (frame.rgb()[:, 80:] == (200, 100, 50)).all() and (frame.thumbnail(4)[:, :20] == 255).all()


def test_odd_sizes(write) -> None:
    path = write("a.webm", "libvpx-vp9", size=(97, 161))
    frame = next(frames(path))
    assert (probe(path).height, probe(path).width) == frame.rgb().shape[:2] == (97, 161)
    assert frame.thumbnail(3).ndim == 3 and frame.grey().shape == (97, 161)


def test_more_pixels_than_the_header_says(write, monkeypatch) -> None:
    """Only the bit stream knows the size; the decoder is told the bound before it allocates."""
    path = write("a.ts", size=(480, 640))
    from goku_core.media import probe as module

    monkeypatch.setattr(module, "MAX_PIXELS", 100_000)
    monkeypatch.setitem(module._OPTIONS, "max_pixels", "100000")
    with pytest.raises(MediaError):
        probe(path)


@pytest.mark.parametrize("name", ["a.webp", "a.gif", "a.png"])
def test_animations_are_neither_picture_nor_film(tmp_path: Path, name: str) -> None:
    pictures = [Image.fromarray(noise(index)) for index in range(5)]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=40)
    info = probe(tmp_path / name)
    assert (info.kind, info.frames) == ("image", 5) and judge(info, GATE).filter == "animated"
    pictures[0].save(tmp_path / f"still-{name}")
    assert judge(probe(tmp_path / f"still-{name}"), GATE) is None
    assert read_image(tmp_path / f"still-{name}").shape == (96, 160, 3)


def test_times_rise_whatever_the_container(write) -> None:
    for name, codec in (("a.avi", "mpeg4"), ("b.avi", "libx264"), ("a.mkv", "mpeg4")):
        path = write(name, codec, stream=lambda s: setattr(s, "max_b_frames", 2))
        times = [frame.pts for frame in frames(path)]
        assert len(times) == 48 and all(a < b for a, b in pairwise(times)), name


def test_a_demuxer_that_stumbles_over_new_tracks_ends_the_packets() -> None:
    """What PyAV does where FFmpeg found tracks on the way depends on what lies in memory: here it is acted out."""

    class Container:
        def demux(self, *streams: object) -> Iterator[str]:
            assert streams == ("video",)
            yield from ("first", "last")
            raise IndexError("list index out of range")

    assert list(demuxed(Container(), "video")) == ["first", "last"]

    class Broken:
        def demux(self) -> Iterator[str]:
            yield "first"
            raise av.error.InvalidDataError(1, "damaged")

    packets = demuxed(Broken())
    assert next(packets) == "first"
    with pytest.raises(av.error.InvalidDataError):
        next(packets)
