"""Shot boundaries on procedural films whose boundaries are known: ours against every detector of PySceneDetect.

Measures the claims: on each class of films (hard cuts, fades through black and white, dissolves, variable frame rate,
flashes, a shaking camera, fast motion) F1 is at least that of the library's best detector on that class, and fades are
recalled at 0.6 at least. Detectors run at their own defaults on the same files, through the library's PyAV back end. A
detection is right when it lies within the transition, or within 50 ms of a cut; each boundary is found once, whatever
else is said is wrong. Ours is what curation does (spans of `goku_core.curate.survey`), refinement included.

Beside it: which share of the frames of transitions stays in clips, and how alike frames one second apart are to the
embedded features of refinement, within a shot and across a cut.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.measuring.films import CLASSES, TICKS, Film, Truth
from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from goku_core.curate.request import Request
from goku_core.curate.spans import Span
from goku_core.curate.survey import spans
from goku_core.media import decode
from goku_core.media.probe import probe
from goku_core.scorers.appearance import Appearance

CLAIM = (
    "Shot boundaries, F1 per class of procedural films: ours (cuts, fades, dissolves) against PySceneDetect's detectors"
)
TOLERANCE = 0.05  # s
OURS, UNREFINED = "goku", "goku, no refinement"


@dataclass
class Tally:
    """Counts of one detector on one class."""

    right: int = 0
    said: int = 0
    true: int = 0

    def add(self, truths: list[Truth], found: list[float]) -> None:
        left = [(t.start / TICKS - TOLERANCE, t.end / TICKS + TOLERANCE) for t in truths]
        self.true, self.said = self.true + len(truths), self.said + len(found)
        for moment in found:
            hit = next((interval for interval in left if interval[0] <= moment <= interval[1]), None)
            if hit is not None:
                left.remove(hit)
                self.right += 1

    @property
    def precision(self) -> float:
        return self.right / self.said if self.said else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.said + self.true) if self.said + self.true else 0.0


def main(arguments: list[str] | None = None) -> Result:
    options = parser("shots", __doc__)
    options.add_argument("--classes", nargs="+", choices=CLASSES, default=list(CLASSES))
    options.add_argument("--films", type=int, default=6, help="films of each class, of 8 shots each [6]")
    options.add_argument("--seed", type=int, default=0, help="which films: bounds were chosen on others than 0 to 99")
    options = settle(options.parse_args(arguments))
    result = Result("shots", CLAIM, options)
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.classes:
            _measure(result, kind, Path(folder), options)
    result.note("precision, recall, f1 over all boundaries of the class; left_in_clips: share of transition frames")
    result.note("within_1s, across_1s: least and greatest cosine of the embedded features, frames 1 s apart")
    result.finish()
    return result


def _measure(result: Result, kind: str, folder: Path, options: argparse.Namespace) -> None:
    films = 1 if options.small else 2 if options.quick else options.films
    shape = {"shots": 3, "height": 144, "width": 256} if options.small else {}
    sides = {name: _peer(name) for name in peers()}
    tallies = {name: Tally() for name in (*sides, UNREFINED, OURS)}
    kept, alike = _Kept(), _Alike()
    for number in range(films):
        path = folder / "film.mp4"
        truths = Film(kind, options.seed + number, **shape).write(path)
        for name, find in sides.items():
            tallies[name].add(truths, find(path))
        for name, refined in ((UNREFINED, False), (OURS, True)):
            found = _spans(path, refined)
            tallies[name].add(truths, boundaries(found))
        kept.add(path, truths, found)
        alike.add(path, truths)
        result.say(f"{kind}: film {number + 1} of {films}")
    for name, tally in tallies.items():
        row = {"case": kind, "side": name, "f1": tally.f1, "precision": tally.precision, "recall": tally.recall}
        more = {"left_in_clips": kept.share, "within_1s": alike.within, "across_1s": alike.across}
        result.rows.append(row | (more if name == OURS else {}))
    best = max(sides, key=lambda name: tallies[name].f1)
    own, other = tallies[OURS].f1, tallies[best].f1
    ratio = own / other if other else float("inf") if own else 1.0
    result.ratios.append(
        {"case": kind, "side": OURS, "against": best, "ratio": ratio, "low": ratio, "high": ratio, "repeats": 1}
    )


def peers() -> dict[str, type]:
    """The library's detectors that need no weights, by the names of its command line."""
    from scenedetect import detectors

    return {
        "detect-content": detectors.ContentDetector,
        "detect-adaptive": detectors.AdaptiveDetector,
        "detect-threshold": detectors.ThresholdDetector,
        "detect-hash": detectors.HashDetector,
        "detect-hist": detectors.HistogramDetector,
    }


def _peer(name: str) -> Callable[[Path], list[float]]:
    def find(path: Path) -> list[float]:
        from scenedetect import detect

        logging.getLogger("pyscenedetect").setLevel(logging.ERROR)
        return [scene[0].seconds for scene in detect(str(path), peers()[name](), backend="pyav")[1:]]

    return find


def _spans(path: Path, refined: bool) -> list[Span]:
    request = Request(refine={"kind": "embedded" if refined else "none"})
    info = probe(path)
    return list(spans(decode.frames(path), info, info.time_base, request))


def boundaries(found: list[Span]) -> list[float]:
    """Moments in seconds; a transition counts once, by its middle, and not at the film's ends."""
    moments = []
    for before, after in pairwise(found):
        if before.transition is None and after.transition is None:
            moments.append(after.start / TICKS)
    for before, span, after in zip(found[:-2], found[1:-1], found[2:], strict=True):
        if span.transition is not None and before.transition is None and after.transition is None:
            moments.append((span.start + span.end) / 2 / TICKS)
    return sorted(moments)


class _Kept:
    """Frames of transitions that ended up in clips."""

    def __init__(self) -> None:
        self.inside = self.all = 0

    def add(self, path: Path, truths: list[Truth], found: list[Span]) -> None:
        times = [frame.pts for frame in decode.frames(path)]
        frames = [pts for pts in times if any(truth.start <= pts < truth.end for truth in truths)]
        clips = [span for span in found if span.transition is None]
        self.all += len(frames)
        self.inside += sum(any(clip.start <= pts < clip.end for clip in clips) for pts in frames)

    @property
    def share(self) -> float:
        return self.inside / self.all if self.all else 0.0


class _Alike:
    """Cosines of frames one second apart."""

    def __init__(self) -> None:
        self._within: list[float] = []
        self._across: list[float] = []

    def add(self, path: Path, truths: list[Truth]) -> None:
        chosen, due = [], 0
        for frame in decode.frames(path):
            if frame.pts >= due:
                chosen.append((frame.pts, frame.rgb()))
                due = frame.pts + TICKS
        features = Appearance().embed([image for _, image in chosen])
        for (start, _), (end, _), one, two in zip(chosen, chosen[1:], features, features[1:], strict=False):
            if any(truth.start <= end and truth.end > start for truth in truths):
                if not any(truth.start <= pts < truth.end for truth in truths for pts in (start, end)):
                    self._across.append(float(one @ two))
            else:
                self._within.append(float(one @ two))

    @property
    def within(self) -> float:
        return float(np.min(self._within, initial=1.0))

    @property
    def across(self) -> float:
        return float(np.max(self._across, initial=-1.0))


if __name__ == "__main__":
    main()
