"""What a set consists of: pictures or clips of a folder, samples of an evaluation, or rows of an .npz."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from goku_core.evaluate.manifest import read as read_manifest
from goku_core.pipeline.errors import GokuError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CLIPS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".npy")
SETS = ("imagenet", "ucf101")
"""Benchmarks whose samples are measured as a whole; of an evaluation that has some, they alone are the set."""
ROWS = "arr_0"
"""The array of uint8 pictures in a sample batch or reference batch of guided-diffusion."""


@dataclass(frozen=True)
class Member:
    """One picture or clip. row: its number in the array of an .npz; -1 for a file of its own. media: what names its bytes."""

    sample_id: str
    path: Path
    row: int
    media: str


def members(place: Path, clips: bool) -> list[Member]:
    """The set at `place`, sorted by sample id: a folder (searched through), the folder of an evaluation, or an .npz.

    A picture's id is its path below the folder without ending. Raises GokuError where nothing of that kind is there, or an
    evaluation lacks planned samples: a distance over fewer is another number.
    """
    if place.is_file():
        return _rows(place, clips)
    if not place.is_dir():
        raise GokuError(f"{place} is not there: name a folder of {'clips' if clips else 'pictures'}, or an .npz")
    planned = _planned(place, clips)
    folder = place if planned is None else place / "samples"
    endings = CLIPS if clips else PICTURES
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings and path.is_file())
    if not files:
        raise GokuError(f"{folder} holds no {'clips' if clips else 'pictures'} ({', '.join(endings)})")
    found = [Member(path.relative_to(folder).with_suffix("").as_posix(), path, -1, _digest(path)) for path in files]
    by_id = {member.sample_id: member for member in found}
    if len(by_id) < len(found):
        twice = next(m for m in found if by_id[m.sample_id] is not m)
        raise GokuError(f"{twice.path} has a twin of another ending: one file per sample. Remove one of the two")
    if planned:
        if missing := sorted(planned - by_id.keys()):
            raise GokuError(
                f"{folder}: {len(missing)} of {len(planned)} planned samples are not there, the first is {missing[0]}. "
                "Draw or import them first."
            )
        return [by_id[name] for name in sorted(planned)]
    return [by_id[name] for name in sorted(by_id)]


def _planned(place: Path, clips: bool) -> set[str] | None:
    """Ids of the samples that are to be measured as a whole; empty: all that are there. None where nothing is planned."""
    if not (place / "manifest.parquet").is_file():
        return None
    media = "video" if clips else "image"
    samples = read_manifest(place / "manifest.parquet")
    return {sample.sample_id for sample in samples if sample.benchmark in SETS and sample.media == media}


def _rows(path: Path, clips: bool) -> list[Member]:
    if clips or path.suffix != ".npz":
        raise GokuError(f"{path} is no folder of {'clips' if clips else 'pictures, and no .npz either'}")
    rows, digest = npz_rows(path, path.stat().st_mtime_ns), _digest(path)
    if rows.ndim != 4 or rows.shape[3] != 3 or rows.dtype != np.uint8:
        raise GokuError(f"{path}: {ROWS} is {rows.dtype} {rows.shape}, not uint8 pictures (n, height, width, 3)")
    return [Member(f"{number:08d}", path, number, f"{digest}#{number}") for number in range(len(rows))]


@lru_cache(maxsize=1)
def npz_rows(path: Path, changed: int) -> np.ndarray:
    """`arr_0` of an .npz; mapped, not read, where it is stored without compression (numpy.savez does so). Never unpickles."""
    with np.load(path, allow_pickle=False) as arrays:
        if ROWS not in arrays.files:
            raise GokuError(f"{path} holds no {ROWS}: it has {', '.join(arrays.files)}")
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(f"{ROWS}.npy")
        if entry.compress_type != zipfile.ZIP_STORED:
            with np.load(path, allow_pickle=False) as arrays:
                return arrays[ROWS]
    with path.open("rb") as stream:
        stream.seek(entry.header_offset + 26)
        name, extra = np.frombuffer(stream.read(4), "<u2")
        stream.seek(entry.header_offset + 30 + int(name) + int(extra))
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        version = np.lib.format.read_magic(stream)
        if version not in read:
            raise GokuError(
                f"{path}: {ROWS} is written in version {version} of numpy's format, which this does not read"
            )
        shape, columns_first, kind = read[version](stream)
        return np.memmap(path, kind, "r", stream.tell(), shape, "F" if columns_first else "C")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
