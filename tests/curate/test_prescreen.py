"""The look at the key frames: what it turns away the full pass would keep nothing of; everything else passes on."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from goku_core.curate import Request, survey
from goku_core.curate.prescreen import screen
from goku_core.curate.table import EMPTY
from goku_core.curate.tiers import assign
from goku_core.media import decode
from goku_core.media.decode import key_frames
from goku_core.media.probe import probe

SHARED = Path(__file__).parents[3] / "shared" / "videos"
SMALL = {"gate": {"min_seconds": 1, "min_side": 96, "min_kbps": 0}}
TIERS = {"480p": {"min_side": 96}, "720p": {"min_side": 97}, "1080p": {"min_side": 98}}
HEIGHT, WIDTH = 240, 320
rng = np.random.default_rng(0)
NOISE = rng.integers(0, 255, (3, HEIGHT, WIDTH, 3), np.uint8)
DETAIL = cv2.GaussianBlur(
    rng.integers(0, 255, (8, HEIGHT, WIDTH, 3), np.uint8).reshape(8 * HEIGHT, WIDTH, 3), (0, 0), 1
)


def picture(number: int) -> np.ndarray:
    return DETAIL[number * HEIGHT : (number + 1) * HEIGHT].copy()


def slides(seconds: int = 3) -> Iterable[np.ndarray]:
    return (NOISE[index // (24 * seconds)] for index in range(24 * 3 * seconds))


def black(grain: float = 0.0) -> Iterable[np.ndarray]:
    for _ in range(24 * 8):
        yield np.clip(16 + rng.normal(0, grain, (HEIGHT, WIDTH, 1)), 0, 255).repeat(3, 2).astype(np.uint8)


def titles(share: float = 1.0) -> Iterable[np.ndarray]:
    """Moving footage with a large line of text, for this share of the time."""
    for index, image in enumerate(moving()):
        if index < share * 24 * 8:
            cv2.putText(image, "MEGA SALE", (10, 130), 0, 1.8, (255, 255, 255), 10)
            cv2.putText(image, "MEGA SALE", (10, 130), 0, 1.8, (0, 0, 0), 4)
        yield image


def moving() -> Iterable[np.ndarray]:
    ground = cv2.GaussianBlur(picture(1), (0, 0), 9)
    for index in range(24 * 8):
        yield cv2.circle(ground.copy(), (60 + index, 120), 40, (250, 240, 230), -1)


def small_thing() -> Iterable[np.ndarray]:
    """Little motion before much detail: large key frames, small ones between."""
    for index in range(24 * 8):
        yield cv2.circle(picture(1), (60 + index, 120), 16, (250, 240, 230), -1)


def late_motion() -> Iterable[np.ndarray]:
    """Stands still for six seconds, then moves for two."""
    for index in range(24 * 8):
        yield cv2.circle(picture(2), (60 + max(0, 2 * (index - 144)), 120), 50, (250, 240, 230), -1)


@pytest.fixture
def write(tmp_path: Path):
    def make(images: Iterable[np.ndarray], crf: int = 23, gop: int = 48, codec: str = "libx264") -> Path:
        path = tmp_path / "film.mkv"
        options = {"preset": "veryfast", "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0"}
        with av.open(str(path), "w") as output:
            track = output.add_stream(codec, rate=24, options=options | {"crf": str(crf)} if codec == "libx264" else {})
            track.height, track.width = HEIGHT, WIDTH
            track.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p"
            for image in images:
                output.mux(track.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
            output.mux(track.encode())
        return path

    return make


def verdict(path: Path, **prescreen) -> str | None:
    found = screen(path, probe(path), Request(**SMALL, tiers=TIERS, prescreen=prescreen))
    return None if found is None else found.filter


def kept_by_full_pass(path: Path, tmp_path: Path) -> int:
    request = Request(**SMALL, tiers=TIERS, prescreen={"enabled": False})
    source = EMPTY | {"media_id": "0" * 64, "uri": path.name, "kind": "video"}
    rows = survey.survey_file(path, source, request, tmp_path)
    return sum(row["outcome"] == "kept" and isinstance(assign(row, request), str) for row in rows)


@pytest.mark.parametrize(
    "images, filter",
    [
        (slides, "prescreen_still"),
        (black, "prescreen_black"),
        (lambda: black(2.0), "prescreen_black"),
        (titles, "prescreen_text"),
    ],
)
def test_what_is_turned_away_would_not_have_been_kept(write, tmp_path: Path, images, filter: str) -> None:
    path = write(images())
    found = screen(path, probe(path), Request(**SMALL, tiers=TIERS))
    assert found is not None and found.filter == filter and len(found.message) > 20
    assert (found.score > found.threshold) == (filter == "prescreen_text")
    assert kept_by_full_pass(path, tmp_path) == 0


@pytest.mark.parametrize("crf", [20, 40])
@pytest.mark.parametrize("images", [moving, small_thing, late_motion, lambda: titles(0.7)])
def test_what_may_be_kept_passes_on(write, images, crf: int) -> None:
    assert verdict(write(images(), crf)) is None


def test_without_a_second_witness_nothing_is_turned_away(write) -> None:
    assert verdict(write(titles(), gop=96), max_spacing_seconds=2.0) is None  # key frames too far apart
    assert verdict(write(titles(), gop=200)) is None  # fewer than three
    assert verdict(write(slides(1), codec="mjpeg")) is None  # only key frames: sizes say nothing
    assert verdict(write(titles()), enabled=False) is None


def test_what_the_tiers_admit_is_not_turned_away(write) -> None:
    still, text = write(slides()), None
    tiers = {name: tier | {"motion_min": 0} for name, tier in TIERS.items()}
    assert screen(still, probe(still), Request(**SMALL, tiers=tiers)) is None
    text = write(titles())
    tiers = {name: tier | {"ocr_max": 1} for name, tier in TIERS.items()}
    assert screen(text, probe(text), Request(**SMALL, tiers=tiers)) is None


def test_key_frames_are_those_of_the_straight_decode(write) -> None:
    path = write(moving(), gop=24)
    with av.open(str(path)) as container:
        wanted = [frame.pts for frame in container.decode(container.streams.video[0]) if frame.key_frame]
    assert [frame.pts for frame in key_frames(path)] == wanted and len(wanted) == 8


def test_a_rejected_source_is_one_row_and_is_not_decoded(write, tmp_path: Path, monkeypatch) -> None:
    path = write(slides())
    monkeypatch.setattr(decode, "_decode", None)
    source = EMPTY | {"media_id": "0" * 64, "uri": path.name, "kind": "video"}
    (row,) = survey.survey_file(path, source, Request(**SMALL, tiers=TIERS), tmp_path)
    assert (row["outcome"], row["filter"], row["tier"]) == ("rejected", "prescreen_still", None)
    assert row["score"] <= row["threshold"] and Fraction(row["time_base_num"], row["time_base_den"]) > 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the sample videos lie outside of the repository")
def test_real_footage_passes_on() -> None:
    for path in sorted(SHARED.glob("*.mp4")):
        assert screen(path, probe(path), Request()) is None, path.name
