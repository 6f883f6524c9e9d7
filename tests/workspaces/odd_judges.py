"""Judges for the tests of judging, good and bad ones. Imported by the pool's children: "odd_judges:FACTORY"."""

from __future__ import annotations

import time
from functools import partial

from goku_core.evaluate.judges.judge import Answer, asked_of
from goku_core.pipeline.errors import GokuError


class Mean:
    """Mean grey level in "odd/DIMENSION", 0..1."""

    def __init__(self, dimension, **traits):
        self.name, self.dimensions, self.fingerprint = f"mean-{dimension}", frozenset({f"odd/{dimension}"}), dimension
        self.traits = traits

    def missing(self):
        return self.traits.get("missing", "")

    def check(self):
        if problem := self.traits.get("problem"):
            raise GokuError(problem)

    def judge(self, seen):
        time.sleep(self.traits.get("seconds", 0.0) * len(seen))
        answers = []
        for one in seen:
            if one.sample.prompt.text in self.traits.get("fails", ()):
                raise RuntimeError(f"cannot look at {one.sample.sample_id}")
            score = self.traits.get("score", float(one.frames.mean()) / 255)
            answers += [
                Answer(one.sample.sample_id, dimension, score, len(one.frames), evidence=self.traits.get("evidence"))
                for dimension in sorted(asked_of(self, one.sample))
            ]
        return answers


def made(dimension, bench, **traits):
    return Mean(dimension, **traits)


first, second, third, fourth = (partial(made, name) for name in ("first", "second", "third", "fourth"))
slow = partial(made, "first", seconds=0.05)
raises = partial(made, "second", fails=("prompt 2",))
nan = partial(made, "second", score=float("nan"))
needy = partial(made, "third", missing="weights/none; get it: nowhere")
unfit = partial(made, "first", problem="sees no cow where there is one")
blind = partial(made, "first", evidence={"detections": []})


def sighted(bench):
    """Finds nothing in the samples, but would see known things of their size."""
    judge = blind(bench)
    judge.sees = lambda height, width: (height, width) == (32, 48)
    return judge


def by_mode(bench):
    """Another rule, and so another fingerprint, in each mode."""
    judge = Mean("first", score=0.25 if bench.mode == "official" else 0.75)
    judge.fingerprint = f"first-{bench.mode}"
    return judge
