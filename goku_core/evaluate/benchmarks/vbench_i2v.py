"""VBench-I2V (VBench++, arXiv 2411.13503; `scripts/cal_i2v_final_score.py` at 45e79ec): nine dimensions of clips that go on
from a picture. The halves "I2V" and "quality" weigh the same; camera motion counts a tenth, dynamic degree half.

Modes as in VBench; the official frame-weighted means are those of the dimensions that both share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from goku_core.evaluate.benchmarks.benchmark import by_prompt
from goku_core.evaluate.benchmarks.coverage import cover
from goku_core.evaluate.benchmarks.tally import Combined, Tally, strata_of, unplanned
from goku_core.evaluate.benchmarks.vbench import BY_FRAME, MODES, QUALITY, YES_OR_NO, Scale, dimension_part, group
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record
from goku_core.evaluate.tables import Mode

FROM_IMAGE = {
    "camera_motion": Scale(0.0, 1.0, 0.1, "CoTracker2"),
    "i2v_subject": Scale(0.1462, 1.0, 1, "DINO ViT-B/16"),
    "i2v_background": Scale(0.2615, 1.0, 1, "DreamSim"),
}
I2V_QUALITY = {name: scale for name, scale in QUALITY.items() if name != "temporal_flickering"}
DIMENSIONS = FROM_IMAGE | I2V_QUALITY


def tally(records: Sequence[Record], samples: Sequence[Sample], mode: Mode) -> Tally:
    """Lines: the nine dimensions, then the two halves."""
    covered = cover("vbench_i2v", records, samples, {d: s.needs for d, s in DIMENSIONS.items()})
    parts = [
        dimension_part(d, s, covered[d], mode, BY_FRAME, YES_OR_NO) if d in covered else unplanned(d)
        for d, s in DIMENSIONS.items()
    ]
    combined = (
        Combined("i2v", tuple(FROM_IMAGE), group(FROM_IMAGE)),
        Combined("quality", tuple(I2V_QUALITY), group(I2V_QUALITY)),
        Combined("total", tuple(DIMENSIONS), total),
    )
    return Tally("vbench_i2v", mode, tuple(parts), combined, strata_of("vbench_i2v", samples), (MODES,))


def total(raw: Mapping[str, np.ndarray]) -> np.ndarray:
    return (group(FROM_IMAGE)(raw) + group(I2V_QUALITY)(raw)) / 2


VBENCH_I2V = by_prompt(
    "vbench_i2v",
    "video",
    ("corrected", "official"),
    tally,
    "VBench-I2V prompts and pictures: Apache-2.0, Vchitect (github.com/Vchitect/VBench); pictures under their own terms",
)
