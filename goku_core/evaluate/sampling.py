"""Draws the samples of the manifest, once: what a killed attempt has drawn lies in scratch under its sample id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from goku_core.evaluate.suite import Sample
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError

Draw = Callable[[list[Sample]], np.ndarray]


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


def draw_all(
    samples: Sequence[Sample], draw: Draw, folder: Path, batch: int, context: Context, what: str
) -> dict[str, np.ndarray]:
    """Every sample as uint8, by sample id. Only those without a file in `folder` are drawn, `batch` at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [s for s in samples if not _place(folder, s).is_file()]
    with context.progress(f"evaluate: draw {what}", len(samples), what) as bar:
        bar.advance(len(samples) - len(missing))
        for start in range(0, len(missing), batch):
            group = missing[start : start + batch]
            drawn = draw(group)
            if len(drawn) != len(group) or drawn.dtype != np.uint8:
                raise GokuError(
                    f"evaluate: the model gave {len(drawn)} samples of {drawn.dtype} for {len(group)} prompts"
                )
            for sample, pixels in zip(group, drawn, strict=True):
                _keep(_place(folder, sample), pixels)
            bar.advance(len(group))
    return {s.sample_id: np.load(_place(folder, s), allow_pickle=False) for s in samples}


def _place(folder: Path, sample: Sample) -> Path:
    return folder / f"{sample.sample_id}.npy"


def _keep(path: Path, pixels: np.ndarray) -> None:
    """Whole or not at all: a kill between the two lines leaves a draft that nobody reads."""
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        np.save(file, pixels, allow_pickle=False)
    draft.rename(path)
