"""Takes samples out of an official layout into an evaluation: every file is matched by the layout's rule, nothing is guessed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from goku_core.evaluate.layouts import grid, names
from goku_core.evaluate.layouts.files import put, sha256
from goku_core.evaluate.manifest import Prompt, Sample
from goku_core.evaluate.sampling import place
from goku_core.evaluate.suites import geneval
from goku_core.evaluate.suites.reading import json_lines
from goku_core.pipeline.errors import GokuError

PICTURES, CLIPS = (".png", ".jpg", ".jpeg", ".webp"), (".mp4",)
MEDIA = {*PICTURES, *CLIPS, ".gif", ".avi", ".mov", ".webm", ".mkv"}
BESIDE = {"grid.png"}  # GenEval's own sampling script leaves one beside the samples of each prompt
TABLE = "imported.parquet"
NAMED = 5
SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_sha256", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Taken:
    """taken: samples that came in now; kept: that were there; surplus: media files of the folder that no sample is."""

    taken: int
    kept: int
    surplus: tuple[str, ...]


def take_in(
    source: Path,
    folder: Path,
    samples: Sequence[Sample],
    link: bool = False,
    on_samples: Callable[[int], None] | None = None,
) -> Taken:
    """Copies the file of every sample to folder/samples and leaves imported.parquet: where each is from, with digests.

    link  hard links instead of copies; then a change of the original changes the sample
    Raises GokuError naming what is missing (and what is there instead), or a sample that is there with other bytes.
    """
    found, surplus = matched(source, samples)
    groups: dict[Path, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(found[sample.sample_id], []).append(sample)
    rows, taken = [], 0
    for path, group in groups.items():
        if path.stat().st_size == 0:
            raise GokuError(f"{path}: the file is empty")
        came = _one(path, group, folder, link)
        taken += sum(came.values())
        digest = sha256(path)
        for sample in group:
            rows.append((sample.sample_id, path.relative_to(source).as_posix(), digest, sha256(place(folder, sample))))
        if on_samples is not None:
            on_samples(len(group))
    _write_table(folder, samples, rows)
    return Taken(taken, len(samples) - taken, tuple(surplus))


def matched(source: Path, samples: Sequence[Sample]) -> tuple[dict[str, Path], list[str]]:
    """(sample id -> its file, media files that are no sample). Raises GokuError naming what is missing."""
    found = _match(source, samples)
    surplus = _surplus(source, set(found.values()))
    if missing := [s for s in samples if s.sample_id not in found]:
        wanted = names.official(samples)
        told = ", ".join("/".join(wanted[s.sample_id]) for s in missing[:NAMED])
        instead = f" Files that are no sample: {', '.join(surplus[:NAMED])}." if surplus else ""
        raise GokuError(
            f"{source}: {len(missing)} of {len(samples)} samples are missing, for example {told}.{instead} "
            "Where there are fewer of each prompt than the protocol wants, say so with --per-prompt."
        )
    return found, surplus


def prompts_there(benchmark: str, source: Path) -> list[Prompt] | None:
    """The prompts that a layout carries in itself: GenEval's metadata.jsonl files, the files of a plain set; else None.

    A prompt of a plain set is a file, in the order of names: such a set has no words.
    """
    if benchmark == "geneval":
        places = sorted(source.glob("[0-9][0-9][0-9][0-9][0-9]/metadata.jsonl"))
        found = []
        for path in places:
            ((line, entry),) = json_lines(path)[:1]
            found.append(geneval.prompt(int(path.parent.name), entry, path, line))
        return found or None
    if benchmark in names.SETS:
        suffixes = PICTURES if names.SETS[benchmark] == "image" else CLIPS
        files = sorted(p.relative_to(source).as_posix() for p in _media(source) if p.suffix.lower() in suffixes)
        if not files:
            raise GokuError(f"{source}: no {' or '.join(suffixes)} files, which a set for {benchmark} is made of")
        return [Prompt(f"{benchmark}-{k:05d}", "", "set", (), {"file": name}) for k, name in enumerate(files)]
    return None


def _match(source: Path, samples: Sequence[Sample]) -> dict[str, Path]:
    """Sample id -> the file it is, under its official name or the second one."""
    wanted = names.official(samples)
    shared = bool(samples) and samples[0].benchmark == "dpg"
    impossible = names.trouble(wanted, fold=False, shared=shared)
    there = _spelled(source)
    found: dict[str, Path] = {}
    for sample in samples:
        second = "/".join(names.by_id(sample))
        first = "/".join(wanted[sample.sample_id]) if sample.sample_id not in impossible else None
        choice = [name for name in (first, second) if name is not None and name in there]
        if len(choice) > 1:
            raise GokuError(f"{source}: {first} and {second} are one sample. Remove the wrong file.")
        if choice:
            found[sample.sample_id] = source / choice[0]
    return found


def _spelled(source: Path) -> set[str]:
    """Names as they are written, so that a file system without case does not give one file to two samples."""
    return {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}


def _media(source: Path) -> list[Path]:
    return [
        path
        for path in source.rglob("*")
        if path.is_file() and path.suffix.lower() in MEDIA and not path.name.startswith(".goku-")
    ]


def _surplus(source: Path, used: set[Path]) -> list[str]:
    return sorted(
        path.relative_to(source).as_posix() for path in _media(source) if path not in used and path.name not in BESIDE
    )


def _one(path: Path, group: list[Sample], folder: Path, link: bool) -> dict[str, bool]:
    """Sample id -> whether it came in now, for the samples of one file."""
    targets = [place(folder, sample) for sample in group]
    if group[0].benchmark != "dpg" and path.suffix == targets[0].suffix:
        return {group[0].sample_id: put(path, targets[0], link)}
    from goku_core.media.decode import read_image
    from goku_core.media.encode import write_image
    from goku_core.media.probe import MediaError

    try:
        picture = read_image(path)
    except MediaError as error:
        raise GokuError(f"{path}: {error.message}") from error
    ordered = sorted(group, key=lambda sample: sample.index)
    tiles = grid.split(picture, len(group), path.name) if group[0].benchmark == "dpg" else [picture]
    came = {}
    for sample, tile in zip(ordered, tiles, strict=True):
        target = place(folder, sample)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".goku-{os.getpid()}.png")
        write_image(draft, tile)
        came[sample.sample_id] = put(draft, target, link=False)
        draft.unlink()
    return came


def _write_table(folder: Path, samples: Sequence[Sample], rows: list[tuple[str, str, str, str]]) -> None:
    order = {sample.sample_id: number for number, sample in enumerate(samples)}
    columns = list(zip(*sorted(rows, key=lambda row: order[row[0]]), strict=True)) or [(), (), (), ()]
    draft = folder / f".{TABLE}.draft"
    pq.write_table(pa.table([pa.array(c, pa.string()) for c in columns], schema=SCHEMA), draft, compression="zstd")
    draft.replace(folder / TABLE)
