"""T2I-CompBench (arXiv 2307.06350; `*_eval/` at 1b70949): eight categories of 300 prompts with ten pictures each.

A category is the mean over all its pictures. A picture of a complex prompt has the mean of the scorers that the prompt's
kind asks for (`3_in_1_eval/3_in_1.py`): attributes with relations, attributes with actions, or all three; a record
"complex" is that mean made elsewhere. The benchmark publishes no total, and none is made up here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from goku_core.evaluate.benchmarks.benchmark import by_prompt
from goku_core.evaluate.benchmarks.coverage import Covered, cover
from goku_core.evaluate.benchmarks.tally import (
    Combined,
    Tally,
    mean_of,
    off_protocol,
    part,
    prompts_by,
    strata_of,
    unplanned,
)
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record
from goku_core.evaluate.statistics import Values
from goku_core.evaluate.tables import Mode

NEEDS = {
    "color": "BLIP-VQA",
    "shape": "BLIP-VQA",
    "texture": "BLIP-VQA",
    "spatial": "UniDet RS200",
    "3d_spatial": "UniDet RS200 and DPT-hybrid",
    "numeracy": "UniDet R50",
    "non_spatial": "CLIP ViT-B/32",
    "complex": "BLIP-VQA, UniDet RS200 and CLIP ViT-B/32",
}
CATEGORIES = tuple(NEEDS)
SCORERS = {"complex_attribute": "BLIP-VQA", "complex_spatial": "UniDet RS200", "complex_action": "CLIP ViT-B/32"}
KINDS = {
    "spatial": ("complex_attribute", "complex_spatial"),
    "action": ("complex_attribute", "complex_action"),
    "spatialaction": ("complex_attribute", "complex_spatial", "complex_action"),
}
"""kind of a complex prompt (`metadata["kind"]`) -> the dimensions whose mean is its 3-in-1 score."""
PER_PROMPT = 10
PROMPTS = 300
"""Validation prompts of every category."""


def tally(records: Sequence[Record], samples: Sequence[Sample], mode: Mode) -> Tally:
    """Lines: the eight categories, named as the official prompt files."""
    samples = by_scorer(records, samples)
    covered = cover("compbench", records, samples, NEEDS | SCORERS, line=lambda sample, dimension: sample.task)
    parts = [
        part(name, covered[name], by_picture(covered[name])) if name in covered else unplanned(name)
        for name in CATEGORIES
    ]
    none = Combined("total", CATEGORIES, mean_of(CATEGORIES), "T2I-CompBench publishes no total of its categories")
    return Tally(
        "compbench",
        mode,
        tuple(parts),
        (none,),
        strata_of("compbench", samples),
        (
            "Two series of published numbers are in circulation that cannot be compared (SDXL, colour: 0.5879 and 0.6369): "
            "set these scores beside rows of a named series only.",
            *off_protocol(
                "T2I-CompBench",
                dict.fromkeys(CATEGORIES, PROMPTS),
                prompts_by("compbench", samples, lambda sample: (sample.task,)),
            ),
        ),
    )


def by_scorer(records: Sequence[Record], samples: Sequence[Sample]) -> list[Sample]:
    """Complex samples ask for the scorers of their kind; for the mean alone where that is what was recorded."""
    found = {r.dimension for r in records if r.benchmark == "compbench"}
    mean_alone = "complex" in found and not found & set(SCORERS)

    def asking(sample: Sample) -> Sample:
        kind = sample.prompt.metadata.get("kind")
        if sample.task != "complex" or (kind is None and not mean_alone):
            return sample
        dimensions = ("complex",) if mean_alone else KINDS[kind]
        return replace(sample, prompt=replace(sample.prompt, dimensions=dimensions))

    return [asking(sample) for sample in samples]


def by_picture(covered: Covered) -> Values:
    """Every picture weighs the same; its score is the mean of its dimensions."""
    pictures: dict[str, list[Record]] = {}
    for row in covered.rows:
        pictures.setdefault(row.sample_id, []).append(row)
    found: dict[str, tuple[float, float]] = {}
    for _, rows in sorted(pictures.items()):
        above, below = found.get(rows[0].prompt_id, (0.0, 0.0))
        found[rows[0].prompt_id] = above + sum(row.score for row in rows) / len(rows), below + 1
    return found


COMPBENCH = by_prompt(
    "compbench",
    "image",
    ("official",),
    tally,
    "T2I-CompBench prompts: MIT, Kaiyi Huang and others (github.com/Karine-Huang/T2I-CompBench)",
)
