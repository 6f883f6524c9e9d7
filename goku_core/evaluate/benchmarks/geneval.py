"""GenEval (arXiv 2310.11513; `evaluation/summary_scores.py` at af4902f): six tasks, right or wrong, plain means.

A task's score is its share of right pictures, the overall the unweighted mean of the six, so that a prompt of the small
tasks weighs more. The official code has no defect here: one mode. Its picture-level defects are the judge's affair.
"""

from __future__ import annotations

from collections.abc import Sequence

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

TASKS = {
    "single_object": 80,
    "two_object": 99,
    "counting": 80,
    "colors": 94,
    "position": 100,
    "color_attr": 100,
}
"""task -> prompts of the official file (evaluation_metadata.jsonl, 553 lines)."""
PER_PROMPT = 4
NEEDS = {"geneval": "Mask2Former Swin-S and CLIP ViT-L/14"}


def tally(records: Sequence[Record], samples: Sequence[Sample], mode: Mode) -> Tally:
    """Lines: the six tasks, the share of right pictures, the share of prompts with any right picture."""
    covered = cover("geneval", records, samples, NEEDS, line=lambda sample, dimension: sample.task)
    tasks = [_task(name, covered[name]) if name in covered else unplanned(name) for name in TASKS]
    whole = Covered(
        tuple(row for name in sorted(covered) for row in covered[name].rows),
        sum(c.want for c in covered.values()),
        "; ".join(c.lacks for _, c in sorted(covered.items()) if c.lacks),
    )
    any_right = {p: (max(r.score for r in rows), 1.0) for p, rows in whole.by_prompt().items()}
    return Tally(
        "geneval",
        mode,
        (
            *tasks,
            part("correct_images", whole, whole.by_sample(), True),
            part("correct_prompts", whole, any_right, True),
        ),
        (Combined("total", tuple(TASKS), mean_of(tuple(TASKS))),),
        strata_of("geneval", samples),
        notes(samples),
    )


def notes(samples: Sequence[Sample]) -> tuple[str, ...]:
    """What must be known before the score is set beside another one."""
    planned = prompts_by("geneval", samples, lambda sample: (sample.task,))
    said = ["correct_images weighs every picture the same; correct_prompts asks for one right picture of a prompt."]
    said += off_protocol("GenEval", TASKS, planned)
    if any(s.drawing.rewriting for s in samples if s.benchmark == "geneval"):
        said.append("Rewritten prompts: comparable only with rows that are marked as rewritten (dagger).")
    return tuple(said)


def _task(name: str, covered: Covered) -> Part:
    return part(name, covered, covered.by_sample(), binary=True)


GENEVAL = by_prompt(
    "geneval",
    "image",
    ("official",),
    tally,
    "GenEval prompts: MIT, Dhruba Ghosh, Hanna Hajishirzi, Ludwig Schmidt (github.com/djghosh13/geneval)",
)
