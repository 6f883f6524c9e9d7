"""Clips of the sample corpus, whose truth is known: motion from text, and going on from a first picture.

direction and subject are right or wrong; flicker, subject_consistency and first_frame_psnr are degrees. The total is our
choice: the share of clips in which everything that can be right is right, so that a thing of the wrong colour that moves the
right way does not count. A mean of shares and decibels would mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from goku_core.evaluate.benchmarks.benchmark import by_prompt
from goku_core.evaluate.benchmarks.coverage import Covered, cover
from goku_core.evaluate.benchmarks.tally import Combined, Part, Tally, mean_of, part, strata_of
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record
from goku_core.evaluate.tables import Mode

VERDICTS = ("direction", "subject")
DEGREES = ("flicker", "subject_consistency", "first_frame_psnr")
CHANCE = {"direction": 0.25}
"""Four directions."""
NEEDS = {"subject_consistency": "a feature network (DINO ViT-B/16, or the one of the sample corpus)"}
LICENCE = "prompts made by the project's own grammar: no conditions"


def tally(benchmark: str, records: Sequence[Record], samples: Sequence[Sample], mode: Mode) -> Tally:
    """Lines: the dimensions that are planned, and all_right."""
    covered = cover(benchmark, records, samples, NEEDS)
    parts = [_part(name, covered[name]) for name in (*VERDICTS, *DEGREES) if name in covered]
    everything = _all_right([covered[name] for name in VERDICTS if name in covered])
    return Tally(
        benchmark,
        mode,
        (*parts, everything),
        (Combined("total", ("all_right",), mean_of(("all_right",))),),
        strata_of(benchmark, samples),
        ("total: share of clips whose direction and subject are both right.",),
    )


def _part(name: str, covered: Covered) -> Part:
    unit = "dB" if name.endswith("_psnr") else "share"
    more = {"chance": CHANCE[name]} if name in CHANCE else {}
    return part(name, covered, covered.by_sample(), binary=name in VERDICTS, unit=unit, **more)


def _all_right(lines: Sequence[Covered]) -> Part:
    clips: dict[str, list[Record]] = {}
    for covered in lines:
        for row in covered.rows:
            clips.setdefault(row.sample_id, []).append(row)
    found: dict[str, tuple[float, float]] = {}
    for _, rows in sorted(clips.items()):
        above, below = found.get(rows[0].prompt_id, (0.0, 0.0))
        found[rows[0].prompt_id] = above + float(all(row.verdict for row in rows)), below + 1
    lacks = "; ".join(covered.lacks for covered in lines if covered.lacks)
    whole = Covered(tuple(row for covered in lines for row in covered.rows), sum(c.want for c in lines), lacks)
    return part("all_right", whole, found, binary=True)


MOTION = by_prompt("motion", "video", ("corrected",), partial(tally, "motion"), LICENCE)
I2V = by_prompt("i2v", "video", ("corrected",), partial(tally, "i2v"), LICENCE)
