"""The gate: may this candidate become champion? A pure function of numbers and digests.

Rule (our choice; the paper has no promotion step): a candidate is refused where its evidence is not about its bytes,
where it is below the minimum, and where it is below the champion by more than chance explains. The last is measured by
the interval of the difference of two independent scores: its half-width is the root of the sum of the two squared ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from goku_core.promote.evidence import Evidence
from goku_core.promote.ledger import Draft, Entry, champion
from goku_core.promote.request import Gate


@dataclass(frozen=True)
class Verdict:
    accepted: bool
    reason: str


def half_width(interval: tuple[float, float]) -> float:
    return (interval[1] - interval[0]) / 2


def allowed_drop(gate: Gate, candidate: tuple[float, float], standing: tuple[float, float]) -> float:
    """Score points by which a candidate may lie below the champion, given both 95 % intervals."""
    if gate.maximum_drop == "interval":
        return math.hypot(half_width(candidate), half_width(standing))
    return float(gate.maximum_drop)


def judge(gate: Gate, evidence: Evidence, faults: Sequence[str], standing: Entry | None) -> Verdict:
    """The verdict about one candidate. `faults`: why its evidence is not about its bytes. `standing`: the champion."""
    if faults:
        return Verdict(False, "evidence does not match: " + "; ".join(faults))
    if evidence.score < gate.minimum_score:
        return Verdict(False, f"score {evidence.score:.4f} is below the minimum {gate.minimum_score:.4f}")
    if standing is None:
        return Verdict(True, f"score {evidence.score:.4f}; first champion")
    beside = f"score {evidence.score:.4f}, champion version {standing.version} has {standing.score:.4f}"
    if standing.protocol != evidence.protocol:
        return Verdict(False, f"{beside}, but by another evaluation: not comparable. {_UNLIKE}")
    drop = allowed_drop(gate, evidence.interval, standing.interval)
    if evidence.score < standing.score - drop:
        return Verdict(False, f"{beside}; at most {drop:.4f} below is allowed")
    return Verdict(True, f"{beside}; at most {drop:.4f} below is allowed")


_UNLIKE = "Evaluate with the champion's settings, or decide by hand: `goku promote --by-hand VERSION --because REASON`"


def decide(gate: Gate, evidence: Evidence, bundle: str, faults: Sequence[str], entries: list[Entry]) -> Draft | None:
    """The entry to write about a candidate; None where the ledger already says it.

    Asking twice is answered once: a bundle that is champion stays so, and a refusal stands as long as the champion
    it was taken against. A bundle that somebody rolled back is not promoted again by a rerun.
    """
    standing = champion(entries)
    if settled(entries, bundle, evidence.digest) is not None:
        return None
    verdict = judge(gate, evidence, faults, standing)
    withdrawn = next((e for e in entries if e.decision == "rolled-back" and e.against == bundle), None)
    if verdict.accepted and withdrawn is not None:
        verdict = Verdict(
            False,
            f"was rolled back by entry {withdrawn.number}; "
            f"`goku promote --by-hand {_version(entries, bundle)} --because REASON` brings it back",
        )
    return Draft(
        decision="promoted" if verdict.accepted else "refused",
        bundle=bundle,
        champion=bundle if verdict.accepted else (standing.bundle if standing else None),
        against=standing.bundle if standing else None,
        score=evidence.score,
        interval=evidence.interval,
        protocol=evidence.protocol,
        evidence=evidence.digest,
        reason=verdict.reason,
    )


def settled(entries: list[Entry], bundle: str, evidence: str) -> Entry | None:
    """The entry that already answers for this bundle and evidence, given the champion of today."""
    standing = champion(entries)
    if standing is not None and standing.bundle == bundle:
        return standing
    today = standing.bundle if standing else None
    same = [e for e in entries if e.bundle == bundle and e.decision == "refused"]
    return same[-1] if same and (same[-1].against, same[-1].evidence) == (today, evidence) else None


def _version(entries: list[Entry], bundle: str) -> int:
    return next(entry.version for entry in entries if entry.bundle == bundle)
