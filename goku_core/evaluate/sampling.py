"""Draws the samples of a manifest, once: what a killed attempt has drawn lies under its sample id.

Samples that go through the network together are a *group*: so many after one another, in the order of the plan. Groups never
depend on what is missing, because a product of matrices may round differently for another number of rows. A group of which
one sample is missing is drawn whole, and what was there stays. So a killed and repeated run, and any number of shards, give
the bytes of one unbroken run, on machines of one kind: another processor, GPU or version of torch may round differently.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from goku_core.evaluate.manifest import Sample
from goku_core.media.encode import write_image, write_video
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import canonical_json, lock

Draw = Callable[[list[Sample]], np.ndarray]
SAMPLES, RUN_FILE = "samples", "sampling.json"
SUFFIX = {"image": ".png", "video": ".mp4"}
SUFFIXES = (".png", ".mp4", ".npy")
BATCH = 8
# x264's constant quality. Ours: samples are measured, and at 20, the default for what is only watched, the codec's own
# unrest shows in the flicker between frames.
CLIP_CRF = 10


class Sampler(Protocol):
    """What the evaluation needs of `goku_core.generate.Generator`."""

    fps: float
    size: tuple[int, int]

    def images(
        self, prompts: list[str], seeds: list[int], *, steps: int | None = None, guidance: float | None = None
    ) -> np.ndarray: ...

    def clips(
        self,
        prompts: list[str],
        seeds: list[int],
        frames: int = 17,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        first_frames: np.ndarray | None = None,
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class Shard:
    """Part `number` of `of`, counted from 1: every `of`-th group."""

    number: int = 1
    of: int = 1

    @classmethod
    def of_text(cls, text: str) -> Shard:
        """ "2/4" -> the second of four. Raises GokuError for anything else."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise GokuError(f"--shard {text}: expected a part and a number of parts, for example 1/4.")
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True)
class Run:
    """What all shards must agree on: digest of the weights, and samples in a group."""

    model: str
    batch: int


def place(folder: Path, sample: Sample) -> Path:
    """Where the file of a sample is written: a lossless picture, or a clip."""
    return folder / SAMPLES / f"{sample.sample_id}{SUFFIX[sample.media]}"


def drawn(folder: Path, samples: Sequence[Sample]) -> dict[str, Path]:
    """Sample id -> its file, for the samples that have one."""
    there = {path.name: path for path in (folder / SAMPLES).glob("*") if path.suffix in SUFFIXES}
    found = {}
    for sample in samples:
        names = [sample.sample_id + suffix for suffix in SUFFIXES if sample.sample_id + suffix in there]
        if names:
            found[sample.sample_id] = there[names[0]]
    return found


def groups(samples: Sequence[Sample], batch: int) -> Iterator[list[Sample]]:
    """`batch` samples after one another, of one kind and drawn in one way."""
    for _, alike in groupby(samples, key=lambda s: (s.media, s.drawing)):
        run = list(alike)
        yield from (run[start : start + batch] for start in range(0, len(run), batch))


def settled(folder: Path, run: Run | None, model: str) -> Run:
    """The run that samples of this folder belong to; the first shard that comes decides.

    run    what is asked for; None: what is there, else the default
    model  digest of the weights at hand
    Raises GokuError where samples were begun in another way.
    """
    file = folder / RUN_FILE
    asked = run or Run(model, BATCH)
    if not file.is_file():
        draft = folder / f".{RUN_FILE}.{os.getpid()}.draft"
        draft.write_text(canonical_json(asdict(asked)) + "\n", encoding="utf-8")
        try:
            os.link(draft, file)  # unlike a rename, this fails where another shard was faster
        except FileExistsError:
            pass  # its file is read below
        finally:
            draft.unlink()
    there = Run(**json.loads(file.read_text(encoding="utf-8")))
    if there.model != model:
        raise GokuError(
            f"{folder}: samples were begun with model {there.model[:12]}, not {model[:12]}. "
            "One evaluation is about one model: plan another folder."
        )
    if run is not None and there.batch != run.batch:
        raise GokuError(
            f"{folder}: samples were begun with --batch {there.batch}, not {run.batch}. Samples that go through the "
            "network together must be the same ones in every shard and after every restart."
        )
    return there


def draw_manifest(
    folder: Path,
    samples: Sequence[Sample],
    sampler: Any,
    batch: int,
    shard: Shard = Shard(),
    on_samples: Callable[[int], None] | None = None,
) -> int:
    """Draws what is missing of a shard's groups into folder/samples; returns how many files were written.

    sampler     a `goku_core.generate.Generator`
    on_samples  called with the number of samples that were written or found, group by group
    Raises GokuError where the model gives something else than what was asked.
    """
    own = [group for number, group in enumerate(groups(samples, batch)) if number % shard.of == shard.number - 1]
    (folder / SAMPLES).mkdir(parents=True, exist_ok=True)
    drafts = folder / f".drafts-{shard.number}-of-{shard.of}"
    written = 0
    with lock(folder / f".shard-{shard.number}-of-{shard.of}.lock", owner=f"process {os.getpid()}"):
        shutil.rmtree(drafts, ignore_errors=True)  # of a killed attempt
        drafts.mkdir()
        there = drawn(folder, [sample for group in own for sample in group])
        for group in own:
            if any(sample.sample_id not in there for sample in group):
                pixels = _pixels(sampler, group)
                for sample, one in zip(group, pixels, strict=True):
                    if sample.sample_id not in there:
                        _write(sample, one, sample.drawing.fps or float(sampler.fps), drafts, place(folder, sample))
                        written += 1
            if on_samples is not None:
                on_samples(len(group))
        shutil.rmtree(drafts)
    return written


def draw_all(
    samples: Sequence[Sample], draw: Draw, folder: Path, batch: int, context: Context, what: str
) -> dict[str, np.ndarray]:
    """Every sample as uint8, by sample id. Groups of `batch` that have no file for some sample in `folder` are drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = {s.sample_id for s in samples if not _array(folder, s).is_file()}
    with context.progress(f"evaluate: draw {what}", len(samples), what) as bar:
        bar.advance(len(samples) - len(missing))
        for start in range(0, len(samples), batch):
            group = list(samples[start : start + batch])
            lacking = [s.sample_id in missing for s in group]
            if not any(lacking):
                continue
            for sample, pixels, lacks in zip(group, _checked(group, draw(group)), lacking, strict=True):
                if lacks:
                    _keep(_array(folder, sample), pixels)
            bar.advance(sum(lacking))
    return {s.sample_id: np.load(_array(folder, s), allow_pickle=False) for s in samples}


def _pixels(sampler: Any, group: list[Sample]) -> np.ndarray:
    drawing = group[0].drawing
    asked: Mapping[str, Any] = {
        "height": drawing.height,
        "width": drawing.width,
        "steps": drawing.steps,
        "guidance": drawing.guidance,
    }
    words, seeds = [sample.asked for sample in group], [sample.seed for sample in group]
    if group[0].media == "image":
        return _checked(group, sampler.images(words, seeds, **asked))
    return _checked(group, sampler.clips(words, seeds, frames=drawing.frames, **asked))


def _checked(group: Sequence[Sample], pixels: np.ndarray) -> np.ndarray:
    if len(pixels) != len(group) or pixels.dtype != np.uint8:
        raise GokuError(f"evaluate: the model gave {len(pixels)} samples of {pixels.dtype} for {len(group)} prompts")
    return pixels


def _write(sample: Sample, pixels: np.ndarray, fps: float, drafts: Path, target: Path) -> None:
    draft = drafts / target.name
    if sample.media == "image":
        write_image(draft, pixels)
    else:
        write_video(draft, pixels, fps, crf=CLIP_CRF)
    draft.replace(target)


def _array(folder: Path, sample: Sample) -> Path:
    return folder / f"{sample.sample_id}.npy"


def _keep(path: Path, pixels: np.ndarray) -> None:
    """Whole or not at all: a kill between the two lines leaves a draft that nobody reads."""
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        np.save(file, pixels, allow_pickle=False)
    draft.rename(path)
