"""What a source other than a folder names: one entry per line of a list, row of a table, medium of a bucket."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from goku_core.collect.download.address import check, public
from goku_core.collect.download.answer import Failure
from goku_core.collect.download.fetch import Wanted
from goku_core.collect.listing import SIDECAR_SUFFIXES, Sidecar, from_json, is_hidden, sidecar_names
from goku_core.collect.request import BUCKET_SCHEME, Columns, Request
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.fingerprint import Digests, Tree
from goku_core.storage import Bucket, split_url

URL_COLUMNS = ("url", "path", "uri")
SHA256 = re.compile(r"[0-9a-f]{64}")
ABSENT = "absent"


@dataclass(frozen=True)
class Entry:
    """One medium that a source names.

    name      as it is written down: a public address, or a path
    wanted    what to download; None for a file on this machine
    path      the file on this machine; None for an address
    sidecar   captions given by a table
    sidecars  addresses of captions beside an object, the first that can be read counts
    problem   why it is not asked for at all
    """

    name: str
    wanted: Wanted | None = None
    path: Path | None = None
    sidecar: Sidecar = field(default_factory=Sidecar)
    sidecars: tuple[Wanted, ...] = ()
    problem: Failure | None = None


def entries(request: Request, root: Path) -> list[Entry]:
    """In the order of the source. Raises `GokuError` where the source cannot be read or names nothing."""
    if request.kind == "bucket":
        return bucket_entries(request.source)
    file = root / Path(request.source).expanduser()
    if not file.is_file():
        raise GokuError(f"collect.source: the {request.kind} {file} is not there, or is no file")
    found = list_entries(file) if request.kind == "list" else table_entries(file, request.table)
    if not found:
        raise GokuError(f"collect.source: {file} names no medium: it is empty")
    return found


def content(request: Request, path: Path, digests: Digests) -> Tree | None:
    """What a fingerprint takes into account: of a bucket its keys, sizes and ETags; of a table also its local files.

    What lies behind web addresses is not looked at: their list stands for them (`collect.download.round`).
    """
    if request.kind == "bucket":
        objects = list(_objects(request.source))
        versions = {one.address: f"{one.etag}:{one.bytes}" for one in objects}
        return Tree(versions, {one.address: one.bytes or 0 for one in objects}, folder=True)
    tree = digests.tree(path)
    if tree is None or request.kind != "table" or tree.folder:
        return tree
    local = [entry.path for entry in table_entries(path, request.table) if entry.path is not None]
    there = [file for file in dict.fromkeys(local) if file.is_file()]
    found = dict(zip(there, digests.files(there), strict=True))
    digest = {str(file): found[file][0] if file in found else ABSENT for file in local}
    size = {str(file): found[file][1] if file in found else 0 for file in local}
    return Tree({"": tree.digest} | digest, {"": tree.bytes} | size, folder=True) if local else tree


def list_entries(file: Path) -> list[Entry]:
    """One address per line; empty lines and lines that begin with # do not count."""
    return [_entry(line) for line in (raw.strip() for raw in _lines(file)) if line and not line.startswith("#")]


def table_entries(file: Path, columns: Columns) -> list[Entry]:
    """One entry per row. Relative paths count from the table's folder.

    Raises `GokuError` where the table cannot be read or has no column of addresses.
    """
    names, rows = _READERS[file.suffix.lower()](file, columns)
    url = columns.url or next((name for name in URL_COLUMNS if name in names), "")
    if url not in names:
        wanted = columns.url or " or ".join(URL_COLUMNS)
        raise GokuError(
            f"collect.source: {file} has no column {wanted}; its columns are {', '.join(names) or 'none'}. "
            "collect.table.url names the column of addresses"
        )
    return [_row(row, url, columns, file.parent) for row in rows]


def bucket_entries(url: str) -> list[Entry]:
    """Media and whatever else is no sidecar below a prefix, which is read as a folder; hidden names do not count."""
    objects = {one.address: one for one in _objects(url)}
    if not objects:
        raise GokuError(
            f"collect.source: there is nothing below {url}. Give a prefix as one gives a folder; "
            "a list or table must lie on this machine"
        )
    found = []
    for address, wanted in objects.items():
        key = PurePosixPath(address)
        if key.suffix.lower() not in SIDECAR_SUFFIXES:
            folder = address.removesuffix(key.name)
            sidecars = (objects.get(folder + name) for name in sidecar_names(key.name))
            found.append(Entry(address, wanted, sidecars=tuple(one for one in sidecars if one is not None)))
    return found


def _objects(url: str) -> Iterator[Wanted]:
    """Everything below a prefix but hidden names and the markers of empty folders, by key."""
    name, prefix = split_url(url)
    if prefix and not prefix.endswith("/"):
        prefix += "/"  # s3://bucket/films is not s3://bucket/films-of-others
    for one in Bucket(name).list(prefix):
        inner = one.key.removeprefix(prefix)
        if inner and not inner.endswith("/") and not is_hidden(PurePosixPath(inner)):
            yield Wanted(f"{BUCKET_SCHEME}{name}/{one.key}", one.bytes, etag=one.etag)


def _entry(address: str, **known: Any) -> Entry:
    name = public(address)
    try:
        check(address)
    except Failure as failure:
        return Entry(name or address, problem=failure)
    return Entry(name, Wanted(address, **known))


def _row(row: Mapping[str, Any], url: str, columns: Columns, folder: Path) -> Entry:
    address = row.get(url)
    if not isinstance(address, str) or not address.strip():
        return Entry("", problem=Failure("address", f"the column {url} is empty"))
    address = address.strip()
    sidecar = _captions(row, columns)
    try:
        sha256, size = _digest(row.get(columns.sha256)), _size(row.get(columns.bytes))
    except ValueError as error:
        return Entry(public(address), problem=Failure("table", str(error)), sidecar=sidecar)
    if "://" in address:
        return replace(_entry(address, bytes=size, sha256=sha256), sidecar=sidecar)
    path = folder / Path(address).expanduser()
    wanted = Wanted("", size, sha256) if size is not None or sha256 else None
    return Entry(address, wanted, path, sidecar)


def _captions(row: Mapping[str, Any], columns: Columns) -> Sidecar:
    caption, spans = row.get(columns.caption) or None, row.get(columns.captions) or None
    try:
        if isinstance(spans, str):
            spans = json.loads(spans)
        return Sidecar() if caption is None and spans is None else from_json({"caption": caption, "captions": spans})
    except (ValueError, RecursionError) as error:
        return Sidecar(problem=f"its captions in the table: {error}")


def _digest(value: object) -> str:
    text = "" if value is None else str(value).strip().lower()
    if text and not SHA256.fullmatch(text):
        raise ValueError(f"sha256 {text[:80]!r} is not 64 hexadecimal digits")
    return text


def _size(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"bytes {value!r} is not a number of bytes")
    return value


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig", newline=None) as lines:
            yield from lines
    except (OSError, UnicodeDecodeError) as error:
        raise GokuError(f"collect.source: {file} cannot be read: {error}") from error


def _read_csv(file: Path, columns: Columns) -> tuple[list[str], Iterable[dict[str, Any]]]:
    try:
        reader = csv.DictReader(_lines(file), strict=True)
        return list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise GokuError(f"collect.source: {file}, line {reader.line_num}: {error}") from error


def _read_jsonl(file: Path, columns: Columns) -> tuple[list[str], Iterable[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise GokuError(f"collect.source: {file}, line {number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise GokuError(f"collect.source: {file}, line {number}: expected an object, {{...}}")
            rows.append(row)
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _read_parquet(file: Path, columns: Columns) -> tuple[list[str], Iterable[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(file).names
        # Such tables may hold embeddings too: only what is asked for is read.
        wanted = {*URL_COLUMNS, *columns.model_dump().values()}
        rows = pq.read_table(file, columns=[name for name in names if name in wanted]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise GokuError(f"collect.source: {file} is no Parquet table that can be read: {error}") from error
    return names, rows


_READERS = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
