"""Sampled frames in one file per source: what models read instead of decoding again."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel
from safetensors.numpy import load_file

from goku_core.curate import Request, proxies
from goku_core.curate.survey import survey
from goku_core.media import decode
from goku_core.pipeline.errors import GokuError


def write(folder: Path, name: str = "medium", count: int = 9) -> None:
    with proxies.ProxyWriter(folder, name) as writer:
        for k in range(count):
            writer.add(100 * k, np.full((48, 64, 3), 20 * k, np.uint8))


def test_frames_come_back_in_the_span_and_evenly_spread(tmp_path: Path) -> None:
    write(tmp_path)
    read = proxies.read(tmp_path, "medium", 100, 700, 3)
    assert [pts for pts, _ in read] == [200, 400, 600] and all(image.shape == (48, 64, 3) for _, image in read)
    assert all(abs(float(image.mean()) - pts / 5) < 2 for pts, image in read)
    assert [pts for pts, _ in proxies.read(tmp_path, "medium", 0, 10_000, 99)] == list(range(0, 900, 100))
    assert proxies.read(tmp_path, "medium", 5, 90, 4) == []


def test_the_file_is_the_same_twice_and_a_safetensors_file(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        write(folder)
    first, second = ((tmp_path / name / "medium.safetensors").read_bytes() for name in "ab")
    assert first == second
    found = load_file(tmp_path / "a/medium.safetensors")
    assert found["times"].tolist() == list(range(0, 900, 100)) and found["offsets"][-1] == len(found["jpegs"])


def test_a_failure_leaves_no_file_and_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must rise"), proxies.ProxyWriter(tmp_path, "medium") as writer:
        for _ in range(2):
            writer.add(1, np.zeros((8, 8, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(GokuError, match=r"medium\.safetensors.*goku run curate"):
        proxies.read(tmp_path, "medium", 0, 1, 1)


def test_the_survey_writes_them_from_its_one_decode(library, painter) -> None:
    film = library.video("film.mp4", painter.film([41, 42]))
    library.image("picture.jpg", painter.ground(43, 600, 900))
    workspace = library.write()
    batch = pq.read_table(workspace / "data/raw.parquet").select(["media_id", "uri", "kind"])
    settings = {"request": Request().model_dump(mode="json"), "workspace": str(workspace)}
    settings |= {"transcoded": str(workspace / "transcoded"), "proxies": str(workspace / "proxies")}
    rows = survey(batch.combine_chunks().to_batches()[0], settings).to_pylist()
    clips = [row for row in rows if row["kind"] == "video"]
    shown = {frame.pts: frame for frame in decode.frames(film)}
    for row in clips:
        read = proxies.read(workspace / "proxies", row["media_id"], row["start_pts"], row["end_pts"], 100)
        assert len(read) == 5  # 2.5 s, one every half second
        for pts, image in read:
            assert max(image.shape) == proxies.LONG_SIDE
            assert np.abs(image.astype(int) - shown[pts].rgb(*image.shape[:2])).mean() < 3
    (picture,) = (row for row in rows if row["kind"] == "image")
    ((pts, image),) = proxies.read(workspace / "proxies", picture["media_id"], 0, 1, 5)
    assert pts == 0 and image.shape == (299, 448, 3)


def test_a_section_that_needs_frames_says_so() -> None:
    class Models(BaseModel):
        needs_frames: bool = False

    class Whole(BaseModel):
        models: Models = Models()
        seconds: float = 1.0

    assert not proxies.wanted(Whole()) and proxies.wanted(Whole(models=Models(needs_frames=True)))
    assert not proxies.wanted(Request())
