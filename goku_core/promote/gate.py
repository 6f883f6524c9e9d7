"""The gate: may this candidate become champion? A function of numbers and digests.

Rules (our choice; the paper has no promotion step): a candidate is refused where its evidence is not about its bytes,
where an evaluation that is required is missing, where a score is below its threshold, and where it is below the champion
by more than chance explains. Chance is the 95 % interval of the paired difference on the same prompts; where the
champion's records are gone, that of the difference of two independent scores, whose half-width is the root of the sum of
the two squared ones. Whoever meets every rule becomes champion, or waits for an approver where one is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from goku_core.promote import ledger
from goku_core.promote.evidence import Evidence, Past, Score
from goku_core.promote.ledger import Draft, Entry, champion
from goku_core.promote.paired import Difference, difference
from goku_core.promote.request import Drop, Gate


@dataclass(frozen=True)
class Check:
    """One rule applied: its name, whether the candidate meets it, and the numbers in words."""

    rule: str
    met: bool
    words: str


@dataclass(frozen=True)
class Verdict:
    accepted: bool
    reason: str
    checks: tuple[Check, ...] = ()


def half_width(interval: tuple[float, float]) -> float:
    return (interval[1] - interval[0]) / 2


def allowed_drop(drop: Drop, candidate: tuple[float, float], standing: tuple[float, float]) -> float:
    """By how much a candidate may lie below the champion where the two are not paired, given both 95 % intervals."""
    return math.hypot(half_width(candidate), half_width(standing)) if isinstance(drop, str) else float(drop)


def judge(
    gate: Gate, evidence: Evidence, faults: Sequence[str], standing: Entry | None, past: Past | None = None
) -> Verdict:
    """The verdict about one candidate.

    faults    why its evidence is not about its bytes
    standing  the champion
    past      what is known of the champion's evaluation beyond its ledger entry
    """
    if faults:
        return Verdict(False, "evidence does not match: " + "; ".join(faults))
    checks = [*_own(gate, evidence), *_beside(gate, evidence, standing, past or Past())]
    if broken := [check.words for check in checks if not check.met]:
        return Verdict(False, "; ".join(broken), tuple(checks))
    told = [check.words for check in checks if check.rule == "overall: champion"]
    reason = told[0] if told else f"score {evidence.score:.4f}; first champion"
    if gate.thresholds or gate.required:
        reason += f"; {len(gate.thresholds)} thresholds met, {len(gate.required)} required evaluations there"
    return Verdict(True, reason, tuple(checks))


def _own(gate: Gate, evidence: Evidence) -> Iterator[Check]:
    """Rules that need no champion."""
    score = evidence.score
    words = f"score {score:.4f} is {'not ' * (score >= gate.minimum_score)}below the minimum {gate.minimum_score:.4f}"
    yield Check("overall: minimum", score >= gate.minimum_score, words)
    for name in gate.required:
        there = any(known == name or known.startswith(f"{name}/") for known in evidence.scores)
        # the pictures' benchmark has its total under another name
        there = there or (name == "geneval" and "overall" in evidence.scores)
        words = f"the required evaluation {name} is {'there' if there else 'missing'}"
        yield Check(f"{name}: required", there, words)
    for name, threshold in gate.thresholds.items():
        found = evidence.scores.get(name)
        if found is None:
            yield Check(f"{name}: threshold", False, f"{name} has a threshold, but was not measured")
        elif threshold.minimum is not None:
            value = found.value if threshold.bound == "point" else found.low
            called = name if threshold.bound == "point" else f"the lower bound of {name}"
            met = value >= threshold.minimum
            words = f"{called}, {value:.4f}, is {'not ' * met}below the minimum {threshold.minimum:.4f}"
            yield Check(f"{name}: minimum", met, words)


def _beside(gate: Gate, evidence: Evidence, standing: Entry | None, past: Past) -> Iterator[Check]:
    """Rules that hold the candidate against the champion."""
    if standing is None:
        return
    beside = f"score {evidence.score:.4f}, champion version {standing.version} has {standing.score:.4f}"
    if standing.protocol != evidence.protocol:
        yield Check("overall: champion", False, f"{beside}, but by another evaluation: not comparable. {_UNLIKE}")
        return
    ours, theirs = Score(evidence.score, *evidence.interval), Score(standing.score, *standing.interval)
    met, words = _drop("overall", gate.maximum_drop, evidence, ours, theirs, past)
    yield Check("overall: champion", met, f"{beside}; {words}")
    for name, threshold in gate.thresholds.items():
        candidate, champions = evidence.scores.get(name), past.scores.get(name)
        if threshold.maximum_drop is None or candidate is None:
            continue
        if champions is None:
            words = f"{name} is to be held against the champion's, which is not known any more. {_UNLIKE}"
            yield Check(f"{name}: champion", False, words)
            continue
        met, words = _drop(name, threshold.maximum_drop, evidence, candidate, champions, past)
        yield Check(f"{name}: champion", met, f"{name} {candidate.value:.4f}, champion {champions.value:.4f}; {words}")


def _drop(name: str, drop: Drop, evidence: Evidence, candidate: Score, standing: Score, past: Past) -> tuple[bool, str]:
    note = ""
    if drop == "paired":
        found = difference(evidence.records, past.records, name)
        if isinstance(found, Difference):
            span = f"{found.value:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"
            worse = found.high < 0
            held = "worse by more than chance explains" if worse else "not worse by more than chance explains"
            return not worse, f"{held} on the same {found.prompts} prompts ({span})"
        note = f" (not paired: {found})"
    allowed = allowed_drop(drop, (candidate.low, candidate.high), (standing.low, standing.high))
    return candidate.value >= standing.value - allowed, f"at most {allowed:.4f} below is allowed{note}"


_UNLIKE = "Evaluate with the champion's settings, or decide by hand: `goku promote --by-hand VERSION --because REASON`"


def decide(
    gate: Gate,
    evidence: Evidence,
    bundle: str,
    faults: Sequence[str],
    entries: list[Entry],
    past: Past | None = None,
) -> Draft | None:
    """The entry to write about a candidate; None where the ledger already says it.

    Asking twice is answered once: a bundle that is champion stays so, and a refusal, or the wait for an approver, stands
    as long as the champion and the rules it was taken by. A bundle that somebody rolled back is not promoted again by
    a rerun.
    """
    standing = champion(entries)
    rules = ledger.gate_digest(gate.model_dump(mode="json"))
    if settled(entries, bundle, evidence.digest, rules) is not None:
        return None
    verdict = judge(gate, evidence, faults, standing, past)
    withdrawn = next((e for e in entries if e.decision == "rolled-back" and e.against == bundle), None)
    if verdict.accepted and withdrawn is not None:
        verdict = Verdict(
            False,
            f"was rolled back by entry {withdrawn.number}; "
            f"`goku promote --by-hand {_version(entries, bundle)} --because REASON` brings it back",
        )
    waits = verdict.accepted and gate.approver is not None
    reason = f"{verdict.reason}; waits for {' or '.join(gate.approver or ())}" if waits else verdict.reason
    return Draft(
        decision="awaiting" if waits else "promoted" if verdict.accepted else "refused",
        bundle=bundle,
        champion=bundle if verdict.accepted and not waits else (standing.bundle if standing else None),
        against=standing.bundle if standing else None,
        score=evidence.score,
        interval=evidence.interval,
        protocol=evidence.protocol,
        evidence=evidence.digest,
        reason=reason,
        gate=rules,
        kept=not faults,
    )


def settled(entries: list[Entry], bundle: str, evidence: str, rules: str | None = None) -> Entry | None:
    """The entry that already answers for this bundle, evidence and rules (their digest), given the champion of today."""
    standing = champion(entries)
    if standing is not None and standing.bundle == bundle:
        return standing
    same = [e for e in entries if e.bundle == bundle and e.decision in ("refused", "awaiting")]
    if not same or same[-1].gate not in (None, rules):  # entries of before the rules were kept stand as they did
        return None
    if same[-1].decision == "awaiting" and same[-1] not in ledger.awaiting(entries):  # approved, and rolled back since
        return None
    today = standing.bundle if standing else None
    return same[-1] if (same[-1].against, same[-1].evidence) == (today, evidence) else None


def _version(entries: list[Entry], bundle: str) -> int:
    return next(entry.version for entry in entries if entry.bundle == bundle)
