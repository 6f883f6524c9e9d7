"""Spans of the table hold exactly the frames of the source: each frame's digest, against FFmpeg's straight decode."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest

from goku_core.curate import Request, survey
from goku_core.curate.remux import remuxed
from goku_core.media import decode
from goku_core.media.faults import MediaError
from goku_core.media.probe import probe

FRAMES, HEIGHT, WIDTH = 100, 96, 160
OPEN = "open-gop=1:bframes=3:keyint=12:min-keyint=12:scenecut=0"
REFRESH = "intra-refresh=1:keyint=12:bframes=0"
UNEVEN = np.cumsum([0, *([20, 20, 85] * 34)])[:FRAMES].tolist()
CASES = {
    "frames out of order": ("a.mp4", "bframes=3:keyint=12", {}),
    "open groups": ("a.mp4", OPEN, {}),
    "open groups, matroska": ("a.mkv", OPEN, {}),
    "no key frames but the first": ("a.mp4", REFRESH, {}),
    "uneven times": ("a.mp4", "bframes=3:keyint=12", {"times": UNEVEN}),
    "uneven times, matroska": ("a.mkv", "bframes=3:keyint=12", {"times": UNEVEN}),
    "edit list": ("a.mp4", OPEN, {"times": [42 * i - 420 for i in range(FRAMES)], "avoid_negative_ts": "disabled"}),
    "fragments": ("a.mp4", "bframes=3:keyint=12", {"movflags": "frag_keyframe+empty_moov"}),
    "transport stream": ("a.ts", OPEN, {}),
    "avi": ("a.avi", "bframes=3:keyint=12", {}),
    "flash video": ("a.flv", "bframes=3:keyint=12", {}),
}


def write(path: Path, coding: str, times: list[int] | None = None, **container: str) -> None:
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (HEIGHT, WIDTH + 2 * FRAMES, 3), np.uint8)
    with av.open(str(path), "w", options=container) as output:
        track = output.add_stream("libx264", rate=24, options={"preset": "veryfast", "x264-params": coding})
        track.height, track.width, track.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        track.codec_context.gop_size = 12
        if times is not None:
            track.codec_context.time_base = Fraction(1, 1000)
        for index in range(FRAMES):
            image = ground[:, 2 * index : 2 * index + WIDTH] if index < 60 else 255 - ground[:, index : index + WIDTH]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            output.mux(track.encode(frame))
        output.mux(track.encode())


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def straight(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [digest(frame.to_ndarray(format="rgb24")) for frame in container.decode(container.streams.video[0])]


def rows_of(path: Path, workspace: Path) -> list[dict]:
    gate = {"min_seconds": 1, "min_side": 64, "min_kbps": 1, "min_fps": 10}
    request = Request(gate=gate, max_clip_seconds=2, min_clip_seconds=1, prescreen={"enabled": False})
    settings = {"request": request.model_dump(mode="json"), "workspace": str(workspace)}
    settings["transcoded"] = str(workspace / "data/transcoded")
    raw = {"media_id": hashlib.sha256(path.read_bytes()).hexdigest(), "uri": path.name, "kind": "video"}
    return survey.survey(pa.RecordBatch.from_pylist([raw]), settings).to_pylist()


@pytest.mark.parametrize("case", CASES)
def test_spans_are_the_frames_of_the_source(tmp_path: Path, case: str, monkeypatch) -> None:
    name, coding, options = CASES[case]
    write(tmp_path / name, coding, **options)
    monkeypatch.setattr(survey, "Transcoder", None)  # H.264 is never encoded again
    rows = rows_of(tmp_path / name, tmp_path)
    assert len(rows) >= 2 and all(row["outcome"] != "failed" for row in rows), rows[0]["message"]
    read = [
        digest(frame.rgb())
        for row in reversed(rows)  # not in order: each span is sought for itself
        for frame in reversed(list(decode.frames(tmp_path / row["uri"], row["start_pts"], row["end_pts"])))
    ][::-1]
    wanted = straight(tmp_path / name)
    assert read == wanted
    assert len(set(wanted)) == len(wanted) == (FRAMES - 10 if case == "edit list" else FRAMES)
    copied = name.endswith((".ts", ".avi", ".flv"))
    assert all((row["uri"] == name) != copied and row["codec"] == "h264" for row in rows)


def test_what_is_not_h264_is_encoded_once(tmp_path: Path, monkeypatch) -> None:
    """As many frames go into the encoder as the source has, and the spans hold them all."""
    encoded = []
    genuine = survey.Transcoder.add
    monkeypatch.setattr(survey.Transcoder, "add", lambda self, frame: encoded.append(1) or genuine(self, frame))
    with av.open(str(tmp_path / "a.avi"), "w") as output:
        track = output.add_stream("mpeg4", rate=24)
        track.height, track.width, track.pix_fmt, track.bit_rate = HEIGHT, WIDTH, "yuv420p", 2_000_000
        track.max_b_frames = 2
        for index in range(FRAMES):
            image = np.full((HEIGHT, WIDTH, 3), 2 * index, np.uint8)
            output.mux(track.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(track.encode())
    rows = rows_of(tmp_path / "a.avi", tmp_path)
    spans = [decode.frames(tmp_path / row["uri"], row["start_pts"], row["end_pts"]) for row in rows]
    levels = [float(frame.grey().mean()) for span in spans for frame in span]
    assert len(encoded) == len(levels) == FRAMES and (np.diff(levels) > -1).all()


def test_copies_are_the_same_bytes_and_nothing_is_left_of_a_failed_one(tmp_path: Path) -> None:
    write(tmp_path / "a.ts", OPEN)
    with (
        remuxed(tmp_path / "a.ts", tmp_path / "one.mp4") as one,
        remuxed(tmp_path / "a.ts", tmp_path / "two.mp4") as two,
    ):
        assert one.read_bytes() == two.read_bytes() and probe(one).fps == 24
    with pytest.raises(MediaError), remuxed(tmp_path / "a.ts", tmp_path / "bad.mp4"):
        raise MediaError("truncated", "found only later")
    twice = (tmp_path / "a.ts").read_bytes() * 2
    (tmp_path / "twice.ts").write_bytes(twice)
    with pytest.raises(MediaError) as caught, remuxed(tmp_path / "twice.ts", tmp_path / "bad.mp4"):
        raise AssertionError("times that fall back cannot be copied")
    assert caught.value.error_class == "timestamps"
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["one.mp4", "two.mp4"]
    assert not list(tmp_path.glob(".*"))
