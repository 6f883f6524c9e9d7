"""What a file says about how it was made: written into every format, read back, and not believed when it cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from goku_core.media.decode import frames, read_image
from goku_core.media.encode import write_image
from goku_core.media.provenance import Provenance, read_provenance, write_clip, write_picture
from goku_core.pipeline.errors import GokuError

MADE = Provenance(
    "abc", 'a "red" circle — größer', 7, 24, 3.0, 64, 112, negative="blur, 模糊", made="2026-01-02T03:04:05+00:00"
)
CLIP = replace(MADE, frames=5, fps=6.0, first_frame="ab" * 32, first_frame_name="first.png", image_guidance=1.5)


def grey_clip(shades: range = range(0, 100, 20)) -> np.ndarray:
    return np.stack([np.full((32, 64, 3), shade, np.uint8) for shade in shades])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "B.JPEG"])
def test_picture_tells_how_it_was_made(tmp_path: Path, name: str) -> None:
    rgb = np.zeros((64, 128, 3), np.uint8)
    rgb[:, 64:] = (200, 30, 30)
    write_picture(tmp_path / name, rgb, MADE)
    assert read_provenance(tmp_path / name) == MADE
    read = read_image(tmp_path / name).astype(int)
    assert np.abs(read - rgb).max() < (1 if name == "a.png" else 60) and np.abs(read[32, 8] - rgb[32, 8]).max() < 12
    assert [p.name for p in tmp_path.iterdir()] == [name], "no partial file stays"


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_clip_tells_how_it_was_made(tmp_path: Path, name: str) -> None:
    write_clip(tmp_path / name, grey_clip(), 6.0, CLIP)
    assert read_provenance(tmp_path / name) == CLIP
    with av.open(str(tmp_path / name)) as clip:
        stream = clip.streams.video[0]
        assert (stream.height, stream.width, float(stream.average_rate)) == (32, 64, 6.0)
    grey = [frame.grey().mean() for frame in frames(tmp_path / name)]
    assert len(grey) == 5 and grey == sorted(grey)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_png_text_is_where_other_programs_look(tmp_path: Path) -> None:
    """Read here without our reader: an iTXt chunk Comment with JSON, prompt and its SHA-256 in it."""
    write_picture(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8), MADE)
    with Image.open(tmp_path / "a.png") as picture:
        said = json.loads(picture.text["Comment"])
    assert (
        said["prompt"] == MADE.prompt
        and said["seed"] == 7
        and said["model"] == "abc"
        and said["negative"] == "blur, 模糊"
    )
    # the digest as `printf PROMPT | sha256sum` gives it
    assert said["prompt_sha256"] == "add362a14e615e1ff38a323b8a3c5bd6d275b6d4a8a83a115aade469af07f7d8"


def test_same_clip_same_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), np.uint8)
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, noise, 6.0, CLIP)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    seed=st.integers(0, 2**63 - 1),
    guidance=st.floats(0, 100),
    negative=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
)
def test_whatever_was_asked_for_survives_the_text(
    prompt: str, seed: int, guidance: float, negative: str | None
) -> None:
    made = replace(MADE, prompt=prompt, seed=seed, guidance=guidance, negative=negative)
    assert Provenance.from_json(json.loads(made.text())) == made


def test_a_file_without_it_or_with_another_one_says_nothing(tmp_path: Path) -> None:
    write_image(tmp_path / "bare.png", np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name, comment in {
        "other.png": "taken on holiday",
        "list.png": "[1, 2]",
        "half.png": json.dumps({"prompt": "a"}),
        "typed.png": json.dumps(MADE.as_json() | {"seed": "seven"}),
        "edited.png": json.dumps(MADE.as_json() | {"prompt": "a blue circle"}),
    }.items():
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("Comment", comment)
        Image.new("RGB", (8, 8)).save(tmp_path / name, pnginfo=chunks)
    for path in sorted(tmp_path.iterdir()):
        assert read_provenance(path) is None, path.name
    with pytest.raises(GokuError, match="no such file"):
        read_provenance(tmp_path / "nowhere.png")


def test_same_pixels_asks_for_everything_that_changes_them() -> None:
    later = replace(MADE, made="2030-01-01T00:00:00+00:00", first_frame_name="renamed.png")
    assert MADE.same_pixels(later)
    for change in (
        {"seed": 8},
        {"prompt": "b"},
        {"negative": None},
        {"guidance": 3.5},
        {"upscale": 2},
        {"model": "abd"},
    ):
        assert not MADE.same_pixels(replace(MADE, **change)), change


def test_time_of_making_is_utc_and_now() -> None:
    made = datetime.fromisoformat(MADE.now().made or "")
    assert made.tzinfo == UTC and abs((datetime.now(UTC) - made).total_seconds()) < 5


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", grey_clip(), 6.0, CLIP)
    before = (tmp_path / "a.mp4").read_bytes()

    def broken():
        yield grey_clip()[0]
        raise RuntimeError("the network died")

    with pytest.raises(RuntimeError, match="died"):
        write_clip(tmp_path / "a.mp4", broken(), 6.0, CLIP)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
