"""A user's own folder: found recursively, left in place, captions from sidecars, clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from goku_core.collect import Request, run
from goku_core.collect.listing import read_sidecar
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(source: Path | str, workspace: Path) -> list[dict]:
    workspace.mkdir(exist_ok=True)
    staging = workspace / "staging"
    run(Request(source=str(source)), Context(workspace, staging, workspace, cores=2))
    assert list((staging / "data/raw").iterdir()) == [], "files are left in place"
    return pq.read_table(staging / "data/raw.parquet").to_pylist()


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    write(folder / "a.MP4", b"film one")
    write(folder / "a.json", json.dumps({"captions": [{"start": 2, "end": 4.5, "text": "then"}]}))
    write(folder / "deep/er/b.mov", b"film two")
    write(folder / "deep/er/b.txt", "a dog\n runs ")
    write(folder / "deep/er/copy.webm", b"film one")
    write(folder / "c.png", b"")
    write(folder / "c.png.json", '{"caption": "nothing"}')
    write(folder / "d.jpg", b"picture")
    write(folder / "d.json", '["a form", "we do not know"]')
    write(folder / "notes.pdf", b"paper")
    write(folder / ".hidden.mp4", b"film three")
    write(folder / ".cache/e.mp4", b"film four")
    return folder


def test_every_file_has_one_row_with_its_reason(media: Path, tmp_path: Path) -> None:
    found = {Path(row["uri"]).name: row for row in rows(media, tmp_path / "workspace")}
    assert set(found) == {"a.MP4", "b.mov", "copy.webm", "c.png", "d.jpg", "notes.pdf"}
    assert found["a.MP4"]["uri"] == (media / "a.MP4").as_posix(), "absolute, as it lies outside the workspace"
    assert found["a.MP4"]["captions"] == [{"start": 2.0, "end": 4.5, "text": "then"}]
    assert found["b.mov"]["caption"] == "a dog runs"
    verdicts = {name: (row["kind"], row["outcome"], row["filter"]) for name, row in found.items()}
    assert verdicts == {
        "a.MP4": ("video", "kept", None),
        "b.mov": ("video", "kept", None),
        "copy.webm": ("video", "rejected", "duplicate"),
        "c.png": ("image", "failed", "empty"),
        "d.jpg": ("image", "kept", None),
        "notes.pdf": ("unknown", "rejected", "type"),
    }
    assert found["copy.webm"]["message"].endswith("a.MP4")
    assert found["copy.webm"]["media_id"] == found["a.MP4"]["media_id"]
    assert found["d.jpg"]["caption"] is None


def test_sidecars_not_understood_are_said(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Context, "say", lambda self, message: said.append(message))
    rows(media, tmp_path / "workspace")
    (only,) = said
    assert "d.jpg" in only and "caption" in only


def test_inside_the_workspace_paths_are_relative(tmp_path: Path) -> None:
    write(tmp_path / "mine/x.mkv", b"film")
    (row,) = rows("mine", tmp_path)
    assert row["uri"] == "mine/x.mkv"


def test_same_table_twice(media: Path, tmp_path: Path) -> None:
    tables = []
    for name in ("one", "two"):
        rows(media, tmp_path / name)
        tables.append((tmp_path / name / "staging/data/raw.parquet").read_bytes())
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: write(folder, b"x"), "is a file"),
        (lambda folder: write(folder / "a.pdf", b"x"), "no video or image"),
    ],
)
def test_nothing_to_read_is_one_clear_error(tmp_path: Path, prepare, said: str) -> None:
    prepare(tmp_path / "media")
    with pytest.raises(GokuError, match=said):
        rows(tmp_path / "media", tmp_path / "workspace")


@pytest.mark.parametrize(
    "content",
    [
        "[1, 2]",
        "{",
        '{"captions": [{"start": 3, "end": 1, "text": "x"}]}',
        '{"captions": [{"start": 0, "end": NaN, "text": "x"}]}',
        '{"captions": [{"start": 0, "end": 1}]}',
        '{"captions": "x"}',
        '{"caption": 3}',
        '{"title": "x"}',
        b"\xff\xfe\x00",
        "[" * 100_000,
    ],
)
def test_a_broken_sidecar_is_no_caption_and_no_failure(tmp_path: Path, content: str | bytes) -> None:
    write(tmp_path / "a.json", content)
    sidecar = read_sidecar(write(tmp_path / "a.mp4", b"film"))
    assert (sidecar.caption, sidecar.captions) == (None, ())
    assert sidecar.problem.startswith("a.json")


def test_sidecar_with_both_forms_and_order(tmp_path: Path) -> None:
    spans = [{"start": 2, "end": 3, "text": "b"}, {"start": 0, "end": 2, "text": "a"}]
    write(tmp_path / "a.json", json.dumps({"caption": "all", "captions": spans}))
    sidecar = read_sidecar(write(tmp_path / "a.mp4", b"film"))
    assert sidecar.caption == "all"
    assert sidecar.captions == ((0.0, 2.0, "a"), (2.0, 3.0, "b"))


def test_empty_text_is_no_caption(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "  \n")
    assert read_sidecar(write(tmp_path / "a.mp4", b"film")).caption is None
