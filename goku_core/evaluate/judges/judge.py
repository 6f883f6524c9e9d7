"""What a judge is: something that looks at decoded samples and answers in the dimensions it knows.

Judges are found by name (`JUDGES`), imported when one is asked for, and load their weights at the first sample. A judge whose
weights are not there is never replaced: its dimensions are "not evaluated: needs ...".
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from goku_core.evaluate.manifest import Sample
from goku_core.pipeline.errors import GokuError

JUDGES: dict[str, str] = {
    "contour": "goku_core.evaluate.judges.contour:make",
    "direction": "goku_core.evaluate.judges.direction:make",
    "flicker": "goku_core.evaluate.judges.pixels:flicker",
    "embedded": "goku_core.evaluate.judges.pixels:embedded",
    "first_frame": "goku_core.evaluate.judges.pixels:first_frame",
    "static_filter": "goku_core.evaluate.judges.vbench.static_filter:make",
    "subject_consistency": "goku_core.evaluate.judges.vbench.subject_consistency:make",
    "background_consistency": "goku_core.evaluate.judges.vbench.background_consistency:make",
    "dynamic_degree": "goku_core.evaluate.judges.vbench.dynamic_degree:make",
    "aesthetic_quality": "goku_core.evaluate.judges.vbench.aesthetic_quality:make",
    "imaging_quality": "goku_core.evaluate.judges.vbench.imaging_quality:make",
    "appearance_style": "goku_core.evaluate.judges.vbench.appearance_style:make",
    "viclip": "goku_core.evaluate.judges.video.viclip:make",
    "human_action": "goku_core.evaluate.judges.video.human_action:make",
    "motion_smoothness": "goku_core.evaluate.judges.video.motion_smoothness:make",
    "mask2former": "goku_core.evaluate.judges.geneval.mask2former:make",
    "scene": "goku_core.evaluate.judges.words.scene:make",
    "blip_vqa": "goku_core.evaluate.judges.words.blip_vqa:make",
    "non_spatial": "goku_core.evaluate.judges.words.non_spatial:make",
    "mplug_vqa": "goku_core.evaluate.judges.words.mplug_vqa:make",
    "object_class": "goku_core.evaluate.judges.objects.object_class:make",
    "multiple_objects": "goku_core.evaluate.judges.objects.multiple_objects:make",
    "color": "goku_core.evaluate.judges.objects.color:make",
    "spatial_relationship": "goku_core.evaluate.judges.objects.spatial_relationship:make",
}
"""name -> "module:factory"; `factory(Bench)` makes the judge. One line per judge, in the order in which they are run. Of two
that know one dimension of a sample the first speaks, unless judges are named."""


@dataclass(frozen=True)
class Bench:
    """Where and how a judge works.

    weights   folder of weights (docs/weights.md names the place of each below it)
    device    of torch: "cpu", "cuda"
    batch     frames or pictures in one pass of a network; part of the result's bits
    mode      "official" reproduces the defects of a benchmark's own code, "corrected" does not
    """

    weights: Path = Path("weights")
    device: str = "cpu"
    batch: int = 16
    mode: str = "corrected"


@dataclass(frozen=True)
class Seen:
    """A sample as it was decoded, once for all judges.

    frames  (T, H, W, 3) uint8 RGB; T = 1 for a picture
    fps     frames per second; 0 for a picture
    digest  SHA-256 of the file
    given   (H, W, 3) uint8 RGB: the picture that the clip was to continue; None where it was given none
    """

    sample: Sample
    frames: np.ndarray
    fps: float
    digest: str
    given: np.ndarray | None = None


@dataclass(frozen=True)
class Answer:
    """What a judge says about one sample in one dimension.

    score     0..1 unless the dimension is known to be in another unit (psnr: dB)
    count     how many things (frames, questions) the score is the mean of: official means weigh by it
    verdict   right or wrong; None where the dimension knows only a degree
    reason    empty when right; else what was expected and what was found
    evidence  what was seen: boxes, answers, scores by frame. Whoever detects things lists them under "detections" (a list,
              or one by frame): a run in which most of them stay empty is looked into (`judging.sight`)
    """

    sample_id: str
    dimension: str
    score: float
    count: int = 1
    verdict: bool | None = None
    reason: str = ""
    evidence: dict[str, Any] | None = None

    def evidence_json(self) -> str:
        """Canonical, so that equal evidence is equal bytes."""
        return json.dumps(self.evidence or {}, sort_keys=True, separators=(",", ":"))


class Judge(Protocol):
    """Looks at samples.

    name        the key in `JUDGES`
    dimensions  "benchmark/dimension" it can answer, for example "vbench/subject_consistency"

    A judge may also have:

    suits(sample) -> bool       whether it can judge this sample at all (a detector knows some classes and no others)
    sees(height, width) -> bool  whether it sees known things in pictures of that size: a run in which it finds nothing goes
                                on if so, as then the pictures are empty (`judging.sight`)
    sources                     the `Source`s of its weights, for the stamp beside the records
    """

    name: str
    dimensions: frozenset[str]

    @property
    def fingerprint(self) -> str:
        """Names everything its answers depend on: rule, settings, mode, digest of the weights, network's precision."""
        ...

    def missing(self) -> str:
        """What is needed and not there, with how to get it, in one line; "" when the judge can work. Loads nothing."""
        ...

    def check(self) -> None:
        """Looks at built-in renders with known answers. Raises GokuError when it does not see what is there."""
        ...

    def judge(self, seen: Sequence[Seen]) -> list[Answer]:
        """One answer for each of these samples and each of its dimensions that the sample asks for (`asked_of`).

        The answer of a sample does not depend on which samples are judged with it. A sample that cannot be judged raises: it
        then has no record, and its message stands in the report of the run.
        """
        ...


def judge_named(name: str, bench: Bench) -> Judge:
    """The judge of that name, or of a factory "module:name" of your own. Raises GokuError when there is none."""
    module, colon, factory = JUDGES.get(name, name).partition(":")
    if not colon:
        raise GokuError(
            f"there is no judge {name!r}. Known: {', '.join(JUDGES)}; or MODULE:FACTORY for one of your own"
        )
    try:
        return getattr(importlib.import_module(module), factory)(bench)
    except (ImportError, AttributeError) as error:
        raise GokuError(f"the judge {name!r} cannot be imported: {error}") from error


def asked_of(judge: Judge, sample: Sample) -> frozenset[str]:
    """Dimensions, by their bare names, that the sample asks for and the judge can answer for it."""
    found = frozenset(d for d in sample.prompt.dimensions if f"{sample.benchmark}/{d}" in judge.dimensions)
    suits = getattr(judge, "suits", None)
    return found if not found or suits is None or suits(sample) else frozenset()
