"""VBench-2.0 (arXiv 2503.21755; `VBench-2.0/scripts/cal_final_score.py` and `vbench2/*.py` at 45e79ec): 18 dimensions in five
groups. A group is the mean of its dimensions, the total the mean of the groups; no scaling, all weights 1.

The judges (language models, detectors, trackers) are not part of this project: their result files are taken in.

Modes. official: over clips; Motion_Order_Understanding is 0 where more than nine clips of ten could not be judged.
corrected: over the clips of a prompt, then over prompts, and what could not be judged is left out whatever its share.
In both, a clip that the official judge refuses (-1) is left out of the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from goku_core.evaluate.benchmarks.benchmark import by_prompt
from goku_core.evaluate.benchmarks.coverage import Covered, cover
from goku_core.evaluate.benchmarks.tally import (
    Combined,
    Part,
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
from goku_core.evaluate.tables import Mode

GROUPS = {
    "Creativity": ("Composition", "Diversity"),
    "Commonsense": ("Instance_Preservation", "Motion_Rationality"),
    "Controllability": (
        "Camera_Motion",
        "Complex_Landscape",
        "Complex_Plot",
        "Dynamic_Attribute",
        "Dynamic_Spatial_Relationship",
        "Human_Interaction",
        "Motion_Order_Understanding",
    ),
    "Human_Fidelity": ("Human_Anatomy", "Human_Clothes", "Human_Identity"),
    "Physics": ("Material", "Mechanics", "Multi-View_Consistency", "Thermotics"),
}
DIMENSIONS = tuple(dimension for group in GROUPS.values() for dimension in group)
PROMPTS = {
    "Human_Anatomy": 120,
    "Camera_Motion": 108,
    "Human_Interaction": 100,
    "Motion_Order_Understanding": 99,
    "Multi-View_Consistency": 97,
    "Dynamic_Attribute": 91,
    "Human_Clothes": 75,
    "Dynamic_Spatial_Relationship": 69,
    "Complex_Plot": 60,
    "Motion_Rationality": 58,
    "Instance_Preservation": 57,
    "Mechanics": 57,
    "Composition": 53,
    "Material": 50,
    "Thermotics": 50,
    "Human_Identity": 46,
    "Complex_Landscape": 30,
    "Diversity": 10,
}
"""dimension -> entries of the official file (VBench2_full_info.json)."""
ONCE = frozenset({"Diversity"})
"""Judged on the 20 clips of a prompt together: one record, at the prompt's first sample."""
REFUSED = 0.9
"""Motion_Order_Understanding, official: a larger share of clips without an answer makes the dimension 0."""


def tally(records: Sequence[Record], samples: Sequence[Sample], mode: Mode) -> Tally:
    """Lines: the 18 dimensions, then the five groups."""
    needs = dict.fromkeys(DIMENSIONS, "the official judge of VBench-2.0")
    covered = cover("vbench2", records, samples, needs, once=ONCE)
    parts = [_part(name, covered[name], mode) if name in covered else unplanned(name) for name in DIMENSIONS]
    refused = {name: sum(not row.count for row in c.rows) for name, c in sorted(covered.items())}
    notes = [f"{name}: {n} clips without an answer are left out." for name, n in refused.items() if n]
    return Tally(
        "vbench2",
        mode,
        tuple(parts),
        (*(Combined(name, of, mean_of(of)) for name, of in GROUPS.items()), Combined("total", DIMENSIONS, total)),
        strata_of("vbench2", samples),
        (
            "official: over clips. corrected: over the clips of a prompt, then over prompts; and "
            "Motion_Order_Understanding is not set to 0 where most clips have no answer.",
            *off_protocol(
                "VBench-2.0", PROMPTS, prompts_by("vbench2", samples, lambda sample: sample.prompt.dimensions)
            ),
            *notes,
        ),
    )


def total(raw: Mapping[str, np.ndarray]) -> np.ndarray:
    return sum(mean_of(of)(raw) for of in GROUPS.values()) / len(GROUPS)


def _part(name: str, covered: Covered, mode: Mode) -> Part:
    if mode == "corrected":
        return part(name, covered, covered.by_prompt_mean())
    refused = sum(not row.count for row in covered.rows)
    if name == "Motion_Order_Understanding" and refused > REFUSED * covered.have and not covered.lacks:
        return part(name, covered, {row.prompt_id: (0.0, 1.0) for row in covered.rows})
    return part(name, covered, covered.by_sample())


VBENCH2 = by_prompt(
    "vbench2",
    "video",
    ("corrected", "official"),
    tally,
    "VBench-2.0 prompts: Apache-2.0, Vchitect (github.com/Vchitect/VBench)",
)
