"""VBench (arXiv 2311.17982; `scripts/constant.py`, `scripts/cal_final_score.py`, `vbench/*.py` at 45e79ec).

Sixteen dimensions of 944 prompts. A dimension is put on its own scale, (raw - min) / (max - min), without clamping;
quality is the weighted mean of seven, semantic the mean of nine, total = (4 quality + semantic) / 5.

Modes. official: the means of the official code on one GPU: over all frames of all clips in the dimensions of `BY_FRAME`,
over clips in the others. corrected: over the clips of a prompt, then over prompts, so that neither a long clip nor a
prompt with more clips weighs more. Defects INSIDE a clip's score (spatial_relationship that ignores the side, colour taken
from the first detection, appearance style of the last frame) are the judge's mode, named in its fingerprint, not this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from goku_core.evaluate.benchmarks.benchmark import by_prompt
from goku_core.evaluate.benchmarks.coverage import Covered, cover
from goku_core.evaluate.benchmarks.tally import (
    Combined,
    Part,
    Rule,
    Tally,
    off_protocol,
    part,
    prompts_by,
    strata_of,
    unplanned,
)
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record
from goku_core.evaluate.statistics import Values, weighted_mean
from goku_core.evaluate.tables import Mode


@dataclass(frozen=True)
class Scale:
    """How a dimension enters its group.

    low, high  raw scores that become 0 and 1
    needs      who judges it
    prompts    number of its prompts in the official file; 0 where it is not laid down here
    """

    low: float
    high: float
    weight: float
    needs: str
    prompts: int = 0


QUALITY = {
    "subject_consistency": Scale(0.1462, 1.0, 1, "DINO ViT-B/16", 72),
    "background_consistency": Scale(0.2615, 1.0, 1, "CLIP ViT-B/32", 86),
    "temporal_flickering": Scale(0.6293, 1.0, 1, "the mean difference of neighbouring frames (no network)", 75),
    "motion_smoothness": Scale(0.706, 0.9975, 1, "AMT-S", 72),
    "dynamic_degree": Scale(0.0, 1.0, 0.5, "RAFT", 72),
    "aesthetic_quality": Scale(0.0, 1.0, 1, "CLIP ViT-L/14 and the LAION aesthetic head", 93),
    "imaging_quality": Scale(0.0, 1.0, 1, "MUSIQ (SPAQ)", 93),
}
SEMANTIC = {
    "object_class": Scale(0.0, 1.0, 1, "GRiT-B (detection)", 79),
    "multiple_objects": Scale(0.0, 1.0, 1, "GRiT-B (detection)", 82),
    "human_action": Scale(0.0, 1.0, 1, "UMT ViT-L/16", 100),
    "color": Scale(0.0, 1.0, 1, "GRiT-B (dense captions)", 85),
    "spatial_relationship": Scale(0.0, 1.0, 1, "GRiT-B (detection)", 84),
    "scene": Scale(0.0, 0.8222, 1, "Tag2Text Swin-B", 86),
    "appearance_style": Scale(0.0009, 0.2855, 1, "CLIP ViT-B/32", 90),
    "temporal_style": Scale(0.0, 0.364, 1, "ViCLIP-L/14", 100),
    "overall_consistency": Scale(0.0, 0.364, 1, "ViCLIP-L/14", 93),
}
DIMENSIONS = QUALITY | SEMANTIC
QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4, 1
BY_FRAME = frozenset(
    {
        "subject_consistency",
        "background_consistency",
        "object_class",
        "multiple_objects",
        "spatial_relationship",
        "scene",
        "appearance_style",
    }
)
"""Dimensions whose official mean on one GPU is over frames. `Record.count`: how many a clip's score is the mean of (of the two
consistencies, the frames after the first)."""
YES_OR_NO = frozenset({"dynamic_degree", "human_action"})
PER_PROMPT = 5
STATIC = "static_filter"
"""Dimension of the static filter's verdicts: of the 25 clips of a temporal_flickering prompt the first five static ones
are scored."""

MODES = (
    "official: over all frames of all clips in "
    + ", ".join(sorted(BY_FRAME))
    + " (a long clip weighs more), over clips in the other dimensions. "
    "corrected: over the clips of a prompt, then over prompts. With clips of one length, all there, the two agree."
)


def tally(records: Sequence[Record], samples: Sequence[Sample], mode: Mode) -> Tally:
    """Lines: the 16 dimensions, then quality and semantic."""
    samples, filtered = with_static_filter(samples)
    covered = cover("vbench", records, samples, {d: s.needs for d, s in DIMENSIONS.items()} | {STATIC: "RAFT"})
    planned = prompts_by("vbench", samples, lambda sample: sample.prompt.dimensions)
    notes = [MODES, *off_protocol("VBench", {d: s.prompts for d, s in DIMENSIONS.items()}, planned)]
    if "temporal_flickering" in covered:
        if filtered:
            static = static_ones(covered["temporal_flickering"], covered.pop(STATIC), mode)
            covered["temporal_flickering"] = static
            if not static.lacks and static.have < static.want:
                notes.append(
                    f"temporal_flickering: {static.want - static.have} of {static.want} clips that stand still are wanting "
                    "after the static filter; the mean is over those there are, as in the official code."
                )
        elif not any(row.judge.startswith("official:") for row in covered["temporal_flickering"].rows):
            notes.append(
                "temporal_flickering: no static filter, since no prompt has more than five clips: "
                "what moves counts against it. The protocol draws 25 and keeps the first five that stand still."
            )
    left_out = sum(not row.count for row in covered["color"].rows) if "color" in covered else 0
    if left_out:
        notes.append(f"color: {left_out} clips name no colour in any frame and are left out, as by the protocol.")
    parts = [
        dimension_part(d, s, covered[d], mode, BY_FRAME, YES_OR_NO) if d in covered else unplanned(d)
        for d, s in DIMENSIONS.items()
    ]
    combined = (
        Combined("quality", tuple(QUALITY), group(QUALITY)),
        Combined("semantic", tuple(SEMANTIC), group(SEMANTIC)),
        Combined("total", tuple(DIMENSIONS), total),
    )
    return Tally("vbench", mode, tuple(parts), combined, strata_of("vbench", samples), tuple(notes))


def group(scales: Mapping[str, Scale]) -> Rule:
    """The weighted mean of the dimensions, each on its own scale."""

    def rule(raw: Mapping[str, np.ndarray]) -> np.ndarray:
        weight = sum(scale.weight for scale in scales.values())
        return sum(s.weight * (raw[d] - s.low) / (s.high - s.low) for d, s in scales.items()) / weight

    return rule


def total(raw: Mapping[str, np.ndarray]) -> np.ndarray:
    quality, semantic = group(QUALITY)(raw), group(SEMANTIC)(raw)
    return (QUALITY_WEIGHT * quality + SEMANTIC_WEIGHT * semantic) / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)


def dimension_part(
    name: str, scale: Scale, covered: Covered, mode: Mode, by_frame: frozenset[str], yes_or_no: frozenset[str]
) -> Part:
    """The line of a dimension in a mode, with its value on its own scale."""
    if mode == "corrected":
        values: Values = covered.by_prompt_mean()
    else:
        values = covered.by_count() if name in by_frame else covered.by_sample()
    more = {"weight": scale.weight}
    if not covered.lacks and any(n for _, n in values.values()):
        more["normalised"] = (weighted_mean(values) - scale.low) / (scale.high - scale.low)
    return part(name, covered, values, binary=name in yes_or_no, **more)


def with_static_filter(samples: Sequence[Sample]) -> tuple[list[Sample], bool]:
    """The samples, and whether the static filter has to choose among them; those it looks at then ask for it."""
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample.prompt.prompt_id] = counts.get(sample.prompt.prompt_id, 0) + 1

    def asks(sample: Sample) -> bool:
        flickers = "temporal_flickering" in sample.prompt.dimensions
        return sample.benchmark == "vbench" and flickers and counts[sample.prompt.prompt_id] > PER_PROMPT

    def asking(sample: Sample) -> Sample:
        dimensions = tuple(dict.fromkeys((*sample.prompt.dimensions, STATIC)))
        return replace(sample, prompt=replace(sample.prompt, dimensions=dimensions))

    return [asking(s) if asks(s) else s for s in samples], any(asks(s) for s in samples)


def static_ones(flicker: Covered, filtered: Covered, mode: Mode) -> Covered:
    """The flicker records of the first five static clips of each prompt.

    official takes them in the order of their file names, where clip 10 comes before clip 2 (`static_filter.py` sorts
    the names); corrected in the order in which they were drawn.
    """
    lacks = flicker.lacks or filtered.lacks
    static = {row.sample_id for row in filtered.rows if row.verdict}
    chosen: list[Record] = []
    taken: dict[str, int] = {}

    def turn(row: Record) -> tuple[str, str | int]:
        number = row.sample_id.rsplit("-", 1)[1]
        return row.prompt_id, number if mode == "official" else int(number)

    for row in sorted(flicker.rows, key=turn):
        if row.sample_id in static and taken.get(row.prompt_id, 0) < PER_PROMPT:
            taken[row.prompt_id] = taken.get(row.prompt_id, 0) + 1
            chosen.append(row)
    prompts = len({row.prompt_id for row in flicker.rows})
    if lacks:
        return Covered(flicker.rows, flicker.want, lacks)
    return Covered(tuple(chosen), PER_PROMPT * prompts)


VBENCH = by_prompt(
    "vbench",
    "video",
    ("corrected", "official"),
    tally,
    "VBench prompts: Apache-2.0, Vchitect (github.com/Vchitect/VBench)",
)
