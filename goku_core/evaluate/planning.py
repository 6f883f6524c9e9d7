"""The plan of an evaluation: a folder with manifest.parquet, suite.json and, where there is one, its rewriting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from goku_core.evaluate import manifest
from goku_core.evaluate.manifest import Drawing, Prompt, Sample
from goku_core.pipeline.errors import GokuError

MANIFEST = "manifest.parquet"


def planned(
    benchmark: str,
    media: Literal["image", "video"],
    prompts: Sequence[Prompt],
    per_prompt: int | Callable[[Prompt], int],
    seed: int,
    drawing: Drawing,
    words: dict[str, str] | None = None,
) -> list[Sample]:
    """The samples: so many of each prompt, or as many as the protocol says."""
    counts = {p.prompt_id: per_prompt if isinstance(per_prompt, int) else per_prompt(p) for p in prompts}
    return manifest.plan(benchmark, media, prompts, counts, seed, drawing, words)


def settle(folder: Path, samples: Sequence[Sample]) -> bool:
    """Writes the manifest; False where the same plan is there already.

    Raises GokuError with the first difference where another plan is there.
    """
    place = folder / MANIFEST
    if place.is_file():
        there = manifest.read(place)
        bound = {sample.drawing.model for sample in there}
        if len(bound) == 1 and {sample.drawing.model for sample in samples} == {""}:
            samples = _with_model(samples, bound.pop())  # planned without a model, and drawn by one since
        if why := manifest.difference(samples, there):
            raise GokuError(f"{place} holds another plan: {why}. A plan is not changed: name another folder.")
        return False
    folder.mkdir(parents=True, exist_ok=True)
    manifest.write(place, samples)
    return True


def bind(folder: Path, samples: Sequence[Sample], model: str) -> list[Sample]:
    """The samples with the model that draws them, written into the manifest where it was planned without one.

    Raises GokuError where it was planned for another model.
    """
    named = {sample.drawing.model for sample in samples}
    if named <= {model}:
        return list(samples)
    if named != {""}:
        other = next(iter(named - {model, ""}))
        raise GokuError(
            f"{folder} was planned for model {other[:12]}, and {model[:12]} is at hand. Plan another folder for it."
        )
    bound = _with_model(samples, model)
    manifest.write(folder / MANIFEST, bound)
    return bound


def _with_model(samples: Sequence[Sample], model: str) -> list[Sample]:
    return [replace(sample, drawing=replace(sample.drawing, model=model)) for sample in samples]
