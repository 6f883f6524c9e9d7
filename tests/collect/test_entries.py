"""Lists and tables as people write them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from goku_core.collect.entries import content, list_entries, table_entries
from goku_core.collect.request import Columns, Request
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.fingerprint import Digests

SHA = "ab" * 32
ROWS = [
    {"url": "https://h/a.mp4", "caption": "a dog\n runs", "sha256": SHA.upper(), "bytes": 12, "other": 1},
    {"url": "https://h/b.mp4", "captions": [{"start": 0, "end": 2, "text": "then"}]},
    {"url": "s3://films/c.mp4", "sha256": "short"},
    {"url": "", "caption": "nobody"},
    {"url": "local/d.mp4"},
]


def written(folder: Path, kind: str) -> Path:
    file = folder / f"table.{kind}"
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    elif kind == "parquet":
        names = dict.fromkeys(name for row in ROWS for name in row)
        pq.write_table(pa.table({name: [row.get(name) for row in ROWS] for name in names}), file)
    else:
        import csv

        names = ["url", "caption", "captions", "sha256", "bytes", "other"]
        with file.open("w", newline="", encoding="utf-8-sig") as out:
            writer = csv.DictWriter(out, names)
            writer.writeheader()
            for row in ROWS:
                writer.writerow(row | ({"captions": json.dumps(row["captions"])} if "captions" in row else {}))
    return file


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_says_the_same_in_every_format(tmp_path: Path, kind: str) -> None:
    first, spans, broken, nobody, local = table_entries(written(tmp_path, kind), Columns())
    assert first.wanted is not None
    assert (first.wanted.address, first.wanted.sha256, first.wanted.bytes) == ("https://h/a.mp4", SHA, 12)
    assert first.sidecar.caption == "a dog runs"
    assert spans.sidecar.captions == ((0.0, 2.0, "then"),)
    assert broken.problem.error_class == "table" and "64 hexadecimal" in broken.problem.message
    assert nobody.problem.error_class == "address"
    assert local.path == tmp_path / "local/d.mp4" and local.problem is None


def test_columns_may_be_called_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"link": "https://h/a.mp4", "alt": "a cat", "path": "wrong.mp4"}')
    (entry,) = table_entries(file, Columns(url="link", caption="alt"))
    assert (entry.name, entry.sidecar.caption) == ("https://h/a.mp4", "a cat")


def test_a_list_is_one_address_per_line(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(b"\xef\xbb\xbfhttps://h/a.mp4\r\n\r\n# a remark\n  s3://films/b.mp4  \nnot-an-address\n")
    found = list_entries(file)
    assert [entry.name for entry in found] == ["https://h/a.mp4", "s3://films/b.mp4", "not-an-address"]
    assert [entry.problem is None for entry in found] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "name,size\nx,1\n", "no column url or path or uri; its columns are name, size"),
        ("t.csv", 'url\n"unclosed', "line 1: unexpected end"),
        ("t.csv", b"\xff\xfe\x00", "cannot be read"),
        ("t.jsonl", '{"url": "x"}\n{', "line 2: not JSON"),
        ("t.jsonl", "[1]", "line 1: expected an object"),
        ("t.parquet", "no table", "no Parquet table"),
    ],
)
def test_a_broken_table_is_one_clear_error(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(GokuError, match=said) as caught:
        table_entries(file, Columns())
    assert name in str(caught.value)


def test_captions_not_understood_are_no_caption_and_no_failure(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('url,captions\nhttps://h/a.mp4,"[{""start"": 3, ""end"": 1, ""text"": ""x""}]"\n')
    (entry,) = table_entries(file, Columns())
    assert entry.problem is None and entry.sidecar.captions == () and "captions" in entry.sidecar.problem


def test_the_content_of_a_table_includes_the_files_it_names(tmp_path: Path) -> None:
    """Else a changed film would not be noticed."""
    (tmp_path / "t.csv").write_text("path\nfilm.mp4\ngone.mp4\n")
    (tmp_path / "film.mp4").write_bytes(b"one")
    request, digests = Request(source="t.csv"), Digests(tmp_path / "digests.sqlite")

    def digest() -> str:
        tree = content(request, tmp_path / "t.csv", digests)
        assert tree is not None
        return tree.digest

    seen = [digest()]
    (tmp_path / "film.mp4").write_bytes(b"another")
    seen.append(digest())
    (tmp_path / "gone.mp4").write_bytes(b"came")
    seen.append(digest())
    (tmp_path / "t.csv").write_text("path\ngone.mp4\nfilm.mp4\n")
    seen.append(digest())
    assert len(set(seen)) == 4 and digest() == seen[-1]
    digests.close()


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("sample", "sample"),
        ("s3://films/2026", "bucket"),
        ("lists/films.TXT", "list"),
        ("a.csv", "table"),
        ("a.parquet", "table"),
        ("/media/films", "folder"),
    ],
)
def test_a_source_is_known_by_its_name(source: str, kind: str) -> None:
    assert Request(source=source).kind == kind


def test_a_single_address_is_no_source() -> None:
    with pytest.raises(ValueError, match="write it into a list"):
        Request(source="https://h/a.mp4")
