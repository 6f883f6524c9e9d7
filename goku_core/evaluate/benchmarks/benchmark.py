"""What a benchmark is, and the list of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from goku_core.evaluate.manifest import Prompt, Sample
from goku_core.evaluate.tables import Mode, Table
from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.evaluate.benchmarks.tally import Tally
    from goku_core.evaluate.records import Record

BENCHMARKS: dict[str, str] = {
    "geneval": "goku_core.evaluate.benchmarks.geneval:GENEVAL",
    "vbench": "goku_core.evaluate.benchmarks.vbench:VBENCH",
    "vbench_i2v": "goku_core.evaluate.benchmarks.vbench_i2v:VBENCH_I2V",
    "vbench2": "goku_core.evaluate.benchmarks.vbench2:VBENCH2",
    "dpg": "goku_core.evaluate.benchmarks.dpg:DPG",
    "compbench": "goku_core.evaluate.benchmarks.compbench:COMPBENCH",
    "motion": "goku_core.evaluate.benchmarks.corpus:MOTION",
    "i2v": "goku_core.evaluate.benchmarks.corpus:I2V",
    "imagenet": "goku_core.evaluate.benchmarks.sets:IMAGENET",
    "ucf101": "goku_core.evaluate.benchmarks.sets:UCF101",
}
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
    tally       (records, samples, mode) -> its lines by prompt, for comparing two models; None where a number belongs to
                a whole set of samples and no prompt adds to it
    """

    name: str
    media: Literal["image", "video"]
    per_prompt: Callable[[Prompt], int]
    modes: tuple[Mode, ...]
    load: Callable[[Path], list[Prompt]]
    aggregate: Callable[[Sequence[Record], Sequence[Sample], Mode, int, int], Table]
    licence: str
    tally: Callable[[Sequence[Record], Sequence[Sample], Mode], Tally] | None = None


def by_prompt(
    name: str,
    media: Literal["image", "video"],
    modes: tuple[Mode, ...],
    tally: Callable[[Sequence[Record], Sequence[Sample], Mode], Tally],
    licence: str,
) -> Benchmark:
    """A benchmark whose lines are means over prompts. Its prompt files are read by the room `suites`."""
    from goku_core.evaluate.benchmarks.tally import table

    def aggregate(records: Sequence[Record], samples: Sequence[Sample], mode: Mode, resamples: int, seed: int) -> Table:
        return table(tally(records, samples, known_mode(name, mode, modes)), resamples, seed)

    return Benchmark(
        name, media, from_suite(name, "per_prompt"), modes, from_suite(name, "load"), aggregate, licence, tally
    )


def known_mode(name: str, mode: Mode, modes: tuple[Mode, ...]) -> Mode:
    """Raises GokuError for a mode that the benchmark does not have."""
    if mode not in modes:
        raise GokuError(f"{name} is aggregated as {' or '.join(modes)}, not as {mode!r}.")
    return mode


def from_suite(name: str, function: str) -> Callable[[Any], Any]:
    """A function of the module that knows the benchmark's prompt files, imported when it is called."""
    place = f"goku_core.evaluate.suites.{name}"

    def call(asked: Any) -> Any:
        if importlib.util.find_spec(place) is None:
            raise GokuError(
                f"{name}: its prompt files cannot be read here. Plan it with a manifest of your own, or take in "
                f"its official results where they come with one."
            )
        return getattr(importlib.import_module(place), function)(asked)

    return call


def benchmark_named(name: str) -> Benchmark:
    """Raises GokuError when there is none of that name."""
    if name not in BENCHMARKS:
        raise GokuError(f"there is no benchmark {name!r}. Known: {', '.join(sorted(BENCHMARKS))}")
    module, attribute = BENCHMARKS[name].split(":")
    return getattr(importlib.import_module(module), attribute)
