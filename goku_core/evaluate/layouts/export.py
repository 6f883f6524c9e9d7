"""Writes an evaluation's samples as the benchmark's own code wants to find them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goku_core.evaluate.layouts import grid, names
from goku_core.evaluate.layouts.files import put, sha256
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.sampling import drawn
from goku_core.pipeline.errors import GokuError

NAMED = 3  # examples in a message


@dataclass(frozen=True)
class Exported:
    """files: written now; kept: there already with the same bytes; by_id: samples that lie under their second name."""

    files: int
    kept: int
    by_id: tuple[str, ...]


def export(
    folder: Path,
    target: Path,
    samples: Sequence[Sample],
    safe: bool = False,
    link: bool = False,
    on_samples: Callable[[int], None] | None = None,
) -> Exported:
    """The samples of `folder` in the official layout below `target`, which may hold some of them already.

    safe  samples whose official name no file can have go to by-id/<sample id>; else they are an error
    link  hard links instead of copies
    Raises GokuError where samples are missing, names collide, or a file is there with other bytes.
    """
    there = drawn(folder, samples)
    if missing := [s.sample_id for s in samples if s.sample_id not in there]:
        raise GokuError(
            f"{folder}: {len(missing)} of {len(samples)} samples are not drawn, for example {missing[0]}. "
            f"`goku evaluate sample {folder}` draws them."
        )
    target.mkdir(parents=True, exist_ok=True)
    tiles = samples[0].benchmark == "dpg" if samples else False
    wanted = names.official(samples)
    second = names.trouble(wanted, ignores_case(target), shared=tiles)
    if second and not safe:
        told = "; ".join(f"{sample_id}: {why}" for sample_id, why in list(second.items())[:NAMED])
        raise GokuError(
            f"{len(second)} of {len(samples)} samples cannot have their official name in {target} ({told}). "
            f"With --safe-names these go to {names.BY_ID}/<sample id>, where the official code does not look."
        )
    for sample in samples:
        if sample.sample_id in second:
            wanted[sample.sample_id] = names.by_id(sample)
    written = kept = 0
    if tiles:
        by_file: dict[tuple[str, ...], list[Sample]] = {}
        for sample in samples:
            by_file.setdefault(wanted[sample.sample_id], []).append(sample)
        for parts, group in by_file.items():
            new = _grid(target.joinpath(*parts), group, there)
            written, kept = written + new, kept + (not new)
            if on_samples is not None:
                on_samples(len(group))
    else:
        for sample in samples:
            place = target.joinpath(*wanted[sample.sample_id])
            source = there[sample.sample_id]
            if source.suffix != place.suffix:
                place = _other_suffix(sample, source, place)
            new = put(source, place, link)
            written, kept = written + new, kept + (not new)
            if on_samples is not None:
                on_samples(1)
    if samples and samples[0].benchmark == "geneval":
        _write_metadata(target, samples)
    return Exported(written, kept, tuple(second))


def ignores_case(folder: Path) -> bool:
    """Does the file system take names that differ by case for one? Asked of it, with a file that is removed again."""
    probe = folder / f".goku-case-{os.getpid()}"
    probe.touch()
    try:
        return probe.with_name(probe.name.upper()).exists()
    finally:
        probe.unlink()


def _other_suffix(sample: Sample, source: Path, place: Path) -> Path:
    """A plain folder's picture may have been a JPEG, of which the evaluation keeps the pixels as PNG."""
    if "file" in sample.prompt.metadata and sample.benchmark in names.SETS:
        return place.with_suffix(source.suffix)
    raise GokuError(f"{source.name}: the layout has {place.suffix} files")


def _grid(place: Path, group: list[Sample], there: dict[str, Path]) -> bool:
    from goku_core.media.decode import read_image
    from goku_core.media.encode import write_image

    ordered = sorted(group, key=lambda sample: sample.index)
    picture = grid.compose([read_image(there[s.sample_id]) for s in ordered], place.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".goku-{os.getpid()}.png")
    write_image(draft, picture)
    if place.exists():
        same = sha256(place) == sha256(draft)
        draft.unlink()
        if not same:
            raise GokuError(f"{place} is there with other bytes: name another folder")
        return False
    draft.replace(place)
    return True


def _write_metadata(target: Path, samples: Sequence[Sample]) -> None:
    """GenEval's metadata.jsonl beside the pictures of each prompt: the line of its suite."""
    for number, prompt in {names.prompt_number(s): s.prompt for s in samples}.items():
        place = target / f"{number:05d}/metadata.jsonl"
        place.write_text(json.dumps(dict(prompt.metadata), ensure_ascii=False) + "\n", encoding="utf-8")
