"""Who judges what: judges by name, or for every dimension that a sample asks for the first that knows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from goku_core.evaluate.judges.judge import JUDGES, Bench, Judge, asked_of, judge_named
from goku_core.evaluate.manifest import Sample
from goku_core.pipeline.errors import GokuError

Modes = Literal["official", "corrected", "both"]


@dataclass(frozen=True)
class Seat:
    """A judge with what it is to answer. name: by which `judge_named` finds it; wanted: (sample id, dimension)."""

    name: str
    judge: Judge
    mode: str
    fingerprint: str
    wanted: frozenset[tuple[str, str]]


@dataclass
class Chosen:
    """seats: in the order of `JUDGES`. left_out: name of a judge -> what it needs. unanswered: "benchmark/dimension"s that no
    judge knows."""

    seats: list[Seat] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)


def choose(samples: Sequence[Sample], names: Sequence[str], bench: Bench, mode: Modes) -> Chosen:
    """Judges for these samples. A judge whose weights are missing is left out by name, and nobody speaks in its place.

    names: nobody but these, each for all it knows. None named: of several that know a dimension of a sample, the first.
    Raises GokuError where a name is unknown, or where a named judge has nothing to say about these samples.
    """
    chosen = Chosen()
    still_open = {(s.sample_id, d) for s in samples for d in s.prompt.dimensions}
    for name in names or JUDGES:
        if not names and not still_open:
            break  # the others need not even be imported
        judge = judge_named(name, bench_in(bench, "corrected" if mode == "both" else mode))
        wanted = {(s.sample_id, d) for s in samples for d in asked_of(judge, s)}
        if names and not wanted:
            raise GokuError(
                f"the judge {name} knows {', '.join(sorted(judge.dimensions))}: no sample here asks for that"
            )
        wanted = wanted if names else wanted & still_open
        if not wanted:
            continue
        still_open -= wanted
        if needs := judge.missing():
            chosen.left_out[name] = needs
            continue
        _seat(chosen, name, judge, "corrected" if mode == "both" else mode, wanted)
        if mode == "both":
            _seat(chosen, name, judge_named(name, bench_in(bench, "official")), "official", wanted)
    benchmarks = {s.sample_id: s.benchmark for s in samples}
    chosen.unanswered = sorted({f"{benchmarks[sample]}/{dimension}" for sample, dimension in still_open})
    return chosen


def bench_in(bench: Bench, mode: str) -> Bench:
    return Bench(bench.weights, bench.device, bench.batch, mode)


def listed(weights: Path, device: str = "cpu") -> list[tuple[str, Judge]]:
    """All judges by name."""
    return [(name, judge_named(name, Bench(weights, device))) for name in JUDGES]


def _seat(chosen: Chosen, name: str, judge: Judge, mode: str, wanted: Iterable[tuple[str, str]]) -> None:
    """Modes that make no difference to a judge give one fingerprint, and it speaks once."""
    if judge.fingerprint not in {seat.fingerprint for seat in chosen.seats}:
        chosen.seats.append(Seat(name, judge, mode, judge.fingerprint, frozenset(wanted)))
