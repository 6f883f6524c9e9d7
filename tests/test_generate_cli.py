"""`goku generate`: options that do not fit are refused with the way out, and files carry how they were made."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from goku_core import cli_generate
from goku_core.cli_generate import Provenance, parse_size, unknown_words, wants_clip, write_clip, write_picture
from goku_core.pipeline.errors import GokuError

MADE = Provenance("abc", 'a "red" circle — größer', 7, 24, 3.0, None)


def test_suffix_decides_between_picture_and_clip() -> None:
    assert not wants_clip(Path("a.png"), None, None)
    assert not wants_clip(Path("a.png"), 1, None)
    assert wants_clip(Path("a.mp4"), None, None)
    assert wants_clip(Path("A.MP4"), 9, Path("first.png"))


@pytest.mark.parametrize(
    ("name", "frames", "image", "words"),
    [
        ("a.gif", None, None, r"cannot write \.gif"),
        ("a", 17, None, "without suffix"),
        ("a.png", 17, None, "name an .mp4"),
        ("a.png", None, Path("b.png"), "Name an .mp4"),
        ("a.mp4", 16, None, "nearest is 17"),
        ("a.mp4", 1, None, "nearest is 5"),
        ("a.mp4", 0, None, "nearest is 5"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, frames: int | None, image: Path | None, words: str) -> None:
    with pytest.raises(GokuError, match=words):
        wants_clip(Path(name), frames, image)


@pytest.mark.parametrize("text", ["64", "64x100", "axb", "0x16", "-16x16", "64x112x3"])
def test_sizes_the_network_cannot_draw(text: str) -> None:
    with pytest.raises(GokuError, match="--size"):
        parse_size(text)
    assert parse_size("64x112") == (64, 112)


def test_no_champion_yet_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(GokuError, match="make demo"):
        cli_generate.locate(tmp_path, "champion")
    with pytest.raises(GokuError, match="neither a bundle"):
        cli_generate.locate(tmp_path, "models/finetune_t2i")


def test_words_no_caption_had(tmp_path: Path) -> None:
    table = tmp_path / "clips.parquet"
    pq.write_table(pa.table({"caption": ["a red circle", None, "Two blue squares"], "clip_id": ["a", "b", "c"]}), table)
    assert unknown_words("a blue circle", table) is None
    assert unknown_words("a red giraffe and two", table).startswith("note: giraffe, and:")
    assert unknown_words("giraffe", tmp_path / "none.parquet") is None


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_picture_tells_how_it_was_made(tmp_path: Path, name: str) -> None:
    rgb = np.zeros((16, 32, 3), np.uint8)
    rgb[:, 16:] = (200, 30, 30)
    write_picture(tmp_path / name, rgb, 4, MADE)
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (128, 64)
        comment = picture.info.get("Comment") or picture.info["comment"].decode()
        assert json.loads(comment)["prompt"] == MADE.prompt and json.loads(comment)["seed"] == 7
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert abs(pixels[32, 8] - (0, 0, 0)).max() < 12 and abs(pixels[32, 120] - (200, 30, 30)).max() < 12
    assert [p.name for p in tmp_path.iterdir()] == [name], "no partial file stays"


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_clip_tells_how_it_was_made(tmp_path: Path, name: str) -> None:
    frames = np.stack([np.full((16, 32, 3), 20 * t, np.uint8) for t in range(5)])
    write_clip(tmp_path / name, frames, 2, 6.0, MADE)
    with av.open(str(tmp_path / name)) as clip:
        tags = {key.lower(): value for key, value in clip.metadata.items()}
        assert json.loads(tags["comment"]) == json.loads(MADE.text())
        stream = clip.streams.video[0]
        assert (stream.height, stream.width, float(stream.average_rate)) == (32, 64, 6.0)
        grey = [frame.to_ndarray(format="gray").mean() for frame in clip.decode(stream)]
    assert len(grey) == 5 and grey == sorted(grey)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_same_clip_same_bytes(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), np.uint8)
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, frames, 1, 6.0, MADE)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
