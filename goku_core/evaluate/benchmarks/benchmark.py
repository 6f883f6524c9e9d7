"""What a benchmark is, and the list of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from goku_core.evaluate.manifest import Prompt, Sample
from goku_core.evaluate.tables import Mode, Table
from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.evaluate.records import Record

BENCHMARKS: dict[str, str] = {}
"""name -> "module:NAME" of its `Benchmark`."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark.

    name        "geneval", "vbench", "vbench2", "dpg", "compbench", "motion", "i2v", "imagenet", "ucf101"
    media       what its samples are
    per_prompt  samples of a prompt by the protocol; a function of the prompt where they differ
    modes       the modes its aggregation knows, "corrected" first where both exist
    load        folder or file of its prompt files, as published, -> prompts; GokuError names file and line that is wrong
    aggregate   (records, samples planned, mode, resamples of the bootstrap, seed) -> its table; a pure function
    licence     of the prompt files, and whose they are: shown when a suite is loaded
    """

    name: str
    media: Literal["image", "video"]
    per_prompt: Callable[[Prompt], int]
    modes: tuple[Mode, ...]
    load: Callable[[Path], list[Prompt]]
    aggregate: Callable[[Sequence[Record], Sequence[Sample], Mode, int, int], Table]
    licence: str


def benchmark_named(name: str) -> Benchmark:
    """Raises GokuError when there is none of that name."""
    if name not in BENCHMARKS:
        raise GokuError(f"there is no benchmark {name!r}. Known: {', '.join(sorted(BENCHMARKS))}")
    module, attribute = BENCHMARKS[name].split(":")
    return getattr(importlib.import_module(module), attribute)
