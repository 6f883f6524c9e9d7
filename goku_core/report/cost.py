"""What the finished line has cost: per stage, per resolution of training, per point of score."""

from __future__ import annotations

from goku_core.costs import PlanRequest
from goku_core.costs.spent import Spent, of, together
from goku_core.report.facts import Facts


def sentence(facts: Facts, plan: PlanRequest) -> str:
    """Of the records whose outputs the workspace holds; a sum without a price says so."""
    pieces = [piece for piece in facts.pieces if piece.record and piece.current]
    spent = {piece.name: of(piece.record, plan) for piece in pieces if piece.record}
    if not spent:
        return "nothing has been done yet"
    currency = plan.prices.currency
    stages = dict.fromkeys(piece.stage for piece in pieces)
    by_stage = [together(name, [spent[p.name] for p in pieces if p.stage == name]) for name in stages]
    sizes = {phase.name: phase.request.get("resolution") for phase in facts.phases}
    trained: dict[str, list[Spent]] = {}
    for piece in pieces:
        if piece.stage == "train" and (size := sizes.get(piece.phase)):
            trained.setdefault(size, []).append(spent[piece.name])
    by_size = [together(name, found) for name, found in trained.items()]
    whole = together("all", by_stage)
    parts = [_shown(whole, currency), ", ".join(f"{one.name} {_amount(one, currency)}" for one in by_stage)]
    if by_size:
        parts.append("training by resolution: " + ", ".join(f"{one.name} {_amount(one, currency)}" for one in by_size))
    if facts.evaluation and whole.money is not None:
        overall = facts.evaluation["overall"]
        points = 100 * (overall["score"] - overall["chance"])
        if points > 0:
            parts.append(
                f"{whole.money / points:,.4f} {currency} for each of {points:.1f} points of score above chance"
            )
    return "; ".join(parts)


def _shown(spent: Spent, currency: str) -> str:
    hours = f"{spent.gpu_hours:,.2f} GPU-hours" if spent.gpu_hours else f"{spent.machine_hours:,.2f} machine-hours"
    return f"{_amount(spent, currency)}, {hours}"


def _amount(spent: Spent, currency: str) -> str:
    if spent.money is None:
        return f"{spent.gpu_hours:,.2f} GPU-hours (no price for this GPU)"
    return f"{spent.money:,.2f} {currency}" if spent.money >= 1 else f"{spent.money:.4f} {currency}"
