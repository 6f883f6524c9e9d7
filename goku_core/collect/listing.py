"""Every file of a folder: its kind, its digest, its caption; what is refused at once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

RAW_FOLDER = "data/raw"
# Of the containers that `media.probe` opens, and of the pictures that it knows by their first bytes.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi"),
    *(".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".flv", ".ogv"),
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
KNOWN_TYPES = " ".join(suffix[1:] for suffix in VIDEO_SUFFIXES + IMAGE_SUFFIXES)
SIDECAR_SUFFIXES = (".json", ".txt")


@dataclass(frozen=True)
class Sidecar:
    """Captions beside a file: one for the whole, or spans of it (start, end in seconds, text).

    problem  says why a sidecar that is there could not be used; then there is no caption
    """

    caption: str | None = None
    captions: tuple[tuple[float, float, str], ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Medium:
    """One row of raw.parquet; `outcome` is "kept", "rejected" or "failed".

    uri     the file; where there is none of its own, what names it in the source
    source  where it was downloaded from; None for a file that was there
    """

    uri: str
    kind: str
    media_id: str = ""
    bytes: int = 0
    sidecar: Sidecar = field(default_factory=Sidecar)
    outcome: str = "kept"
    filter: str | None = None
    message: str | None = None
    source: str | None = None


def find_files(folder: Path) -> list[Path]:
    """All files below ``folder`` that are neither hidden, in a hidden folder, nor sidecars; sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() not in SIDECAR_SUFFIXES and not is_hidden(path.relative_to(folder)) and path.is_file()
    )


def is_hidden(path: PurePath) -> bool:
    """Does its name, or that of a folder it lies in, begin with a dot?"""
    return any(part.startswith(".") for part in path.parts)


def list_media(
    files: list[Path], uri_of: Callable[[Path], str], threads: int, on_progress: Callable[[int], None]
) -> list[Medium]:
    """Reads and hashes each file; sorted by uri. Of files with the same bytes the first by uri is kept."""
    found: list[Medium] = []
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:  # hashing releases the interpreter's lock
        for medium in pool.map(lambda path: examine(path, uri_of(path)), files):
            found.append(medium)
            on_progress(1)
    return mark_duplicates(sorted(found, key=lambda medium: medium.uri))


def examine(path: Path, uri: str) -> Medium:
    """Kind by suffix, SHA-256 of the bytes, sidecar. Never raises for a bad file: the row says what is wrong."""
    kind = kind_of(path)
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.tell()
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        return Medium(uri, kind, outcome="failed", filter="unreadable", message=message)
    medium = Medium(uri, kind, digest, size)
    if kind == "unknown":
        return of_unknown_type(medium, path)
    medium = replace(medium, sidecar=read_sidecar(path))
    if size == 0:
        return replace(medium, outcome="failed", filter="empty", message="the file has no bytes")
    return medium


def uri_of(path: Path, workspace: Path) -> str:
    """Relative to the workspace, absolute outside it."""
    path, workspace = path.absolute(), workspace.absolute()
    if path.is_relative_to(workspace):
        return path.relative_to(workspace).as_posix()
    return path.as_posix()


def of_unknown_type(medium: Medium, path: PurePath) -> Medium:
    message = f"'{path.suffix}' is not one of the known types: {KNOWN_TYPES}"
    return replace(medium, outcome="rejected", filter="type", message=message)


def kind_of(path: PurePath) -> str:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "image" if suffix in IMAGE_SUFFIXES else "unknown"


def mark_duplicates(media: list[Medium]) -> list[Medium]:
    """Rejects kept files whose bytes an earlier one has."""
    first: dict[str, str] = {}
    marked = []
    for medium in media:
        if medium.outcome == "kept":
            name = medium.source or medium.uri
            if medium.media_id in first:
                message = f"the same bytes as {first[medium.media_id]}"
                # A download has no file of its own then: the first one's is named by the same bytes.
                medium = replace(medium, uri=name, outcome="rejected", filter="duplicate", message=message)
            else:
                first[medium.media_id] = name
        marked.append(medium)
    return marked


def sidecar_names(name: str) -> list[str]:
    """Names of the files that may hold the captions of the file ``name``, the first that exists counts."""
    stem = PurePath(name).stem
    return [beside for suffix in SIDECAR_SUFFIXES for beside in (stem + suffix, name + suffix)]


def read_sidecar(path: Path) -> Sidecar:
    """Captions from ``name.json``, ``name.mp4.json``, ``name.txt`` or ``name.mp4.txt``, the first that exists."""
    for name in sidecar_names(path.name):
        place = path.with_name(name)
        if place.is_file():
            try:
                return sidecar_from(name, place.read_bytes())
            except OSError as error:
                return Sidecar(problem=f"{name}: {error}")
    return Sidecar()


def sidecar_from(name: str, content: bytes) -> Sidecar:
    """JSON is ``{"caption": "..."}`` or ``{"captions": [{"start": 0.0, "end": 2.5, "text": "..."}]}``; a text file is
    the caption. Where it cannot be understood the sidecar says why.
    """
    try:
        text = content.decode("utf-8-sig")
        return from_json(json.loads(text)) if name.lower().endswith(".json") else _from_text(text)
    except (ValueError, RecursionError) as error:
        return Sidecar(problem=f"{name}: {error}")


def _from_text(text: str) -> Sidecar:
    # White space, line breaks too, is one space: a caption is one line everywhere.
    return Sidecar(caption=" ".join(text.split()) or None)


def from_json(content: object) -> Sidecar:
    """``{"caption": ...}``, ``{"captions": [...]}`` or both. Raises ValueError where it is something else."""
    if not isinstance(content, dict):
        raise ValueError('expected {"caption": ...} or {"captions": [...]}')
    caption, spans = content.get("caption"), content.get("captions")
    if isinstance(caption, str) and spans is None:
        return _from_text(caption)
    if not isinstance(spans, list) or not (caption is None or isinstance(caption, str)):
        raise ValueError('expected {"caption": "text"} or {"captions": [{"start": s, "end": s, "text": "..."}]}')
    whole = _from_text(caption).caption if caption else None
    return Sidecar(whole, tuple(sorted(_span(entry) for entry in spans)))


def _span(entry: object) -> tuple[float, float, str]:
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise ValueError('each entry of "captions" needs "start", "end" and "text"')
    times = [entry.get("start"), entry.get("end")]
    if not all(isinstance(t, int | float) and not isinstance(t, bool) and math.isfinite(t) for t in times):
        raise ValueError('"start" and "end" of a caption must be seconds')
    start, end = map(float, times)
    if not 0 <= start < end:
        raise ValueError(f'a caption from {start} s to {end} s: "start" must lie before "end"')
    return start, end, " ".join(entry["text"].split())
