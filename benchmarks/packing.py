"""Packs of pictures and clips shared over 8, 64 and 256 ranks: padding, imbalance of compute, and the planner's milliseconds.

Measures the claims: padding at most 0.5 %, max/mean cost - 1 at most 3 %, a plan within 10 ms, over an index of a million
samples, on a mix of 256 px pictures and clips up to 10 s of 720p (`measuring/lengths.py` says which shares). Nothing is
trained: a step's cost is a*n + b*n^2 summed over samples, with a and b by the FLOP of the 2b network, or as `--cost`
gives them (`goku bench cost` measures them).

A group of `sp` ranks shares each pack (sequence parallel); no single rank holds a clip of 219,600 tokens in short time. In
"free" mode groups wait for one another once a step, and its cost is the dearest group's. In "equal" mode they wait at every
pack: its cost is the sum over rounds of the dearest pack. Sides: ours; the same samples dealt longest first by tokens; the
same samples dealt in turn; and buckets of one length per group, drawn, with a batch size by tokens or by cost. Those three
have one pack per group without any limit of memory, which ours keeps. Where the dearest clip of a step costs more than a
group's mean, no plan can balance the step; the rows say in which share of the steps that is so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.measuring.lengths import Buckets, DataSet, Dealt, data_set, padded_share, round_robin, token_balanced
from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from goku_core.models import CONFIGS
from goku_core.packing import Cost, Rounds, arrange, balance, flop_cost, plan, rows_of_step

CLAIM = (
    "Padding, imbalance of compute and milliseconds of the planner, against token-balanced, naive and bucketed dealing"
)
ALIGN = 128  # tokens of a rank's part of a pack are padded to a multiple of this, as kernels of fixed tiles want it
SEED = 0


@dataclass(frozen=True)
class Case:
    """sp ranks share a pack; tokens: of a rank and step, in the mean; pack_tokens: most tokens of a pack."""

    ranks: int
    sp: int
    tokens: int
    pack_tokens: int = 262_144

    @property
    def groups(self) -> int:
        return self.ranks // self.sp

    def __str__(self) -> str:
        return f"{self.ranks} ranks, sp {self.sp}, {self.tokens // 1024}k tokens a rank"


CASES = [
    *(Case(ranks, 1, 1 << 20) for ranks in (8, 64, 256)),  # a group's step holds 22 clips and 88 pictures in the mean
    *(Case(ranks, 8, 1 << 17) for ranks in (64, 256)),  # the same per group of eight
    Case(256, 8, 1 << 15),  # a quarter of that: fewer tokens than balance needs
]
TINY = [Case(4, 2, 1 << 19)]


def main(arguments: list[str] | None = None) -> Result:
    options = parser("packing", __doc__)
    options.add_argument("--samples", type=int, default=1_000_000, help="of the index [1000000]")
    options.add_argument("--steps", type=int, default=200, help="measured [200]")
    options.add_argument("--cost", type=float, nargs=2, metavar=("A", "B"), help="of a*n + b*n^2 [by FLOP of 2b]")
    options = settle(options.parse_args(arguments))
    if options.small or options.quick:
        options.samples, options.steps = (2000, 4) if options.small else (100_000, 20)
    result = Result("packing", CLAIM, options)
    result.note("imbalance: max/mean - 1 in percent, mean and 99th percentile over steps; equal: of sums over rounds")
    result.note(
        f"padding: to {ALIGN} tokens a rank where a pack is packed; of a naive batch padded to its longest sample"
    )
    data = data_set(options.samples, SEED)
    cost = tuple(options.cost) if options.cost else flop_cost(CONFIGS["2b"].width, CONFIGS["2b"].ffn)
    result.note(f"cost a*n + b*n^2 with b/a = {cost[1] / cost[0]:.3g}; longest sample {data.lengths.max()} tokens")
    for case in TINY if options.small else CASES[:1] if options.quick else CASES:
        measure(result, case, data, cost, options)
    result.finish()
    return result


def measure(result: Result, case: Case, data: DataSet, cost: Cost, options: argparse.Namespace) -> None:
    """All sides over the same steps; buckets draw their own samples."""
    tokens = case.tokens * case.ranks
    rng = np.random.default_rng(SEED)
    waits: dict[str, list[float]] = {}
    for rounds in ("free", "equal"):
        waits[f"goku, {rounds}"] = _ours(result, case, data, cost, rounds, options.steps)
    per_group = tokens / case.groups
    mean_cost = float(np.mean(cost[0] * data.lengths + cost[1] * data.lengths.astype(float) ** 2))
    by_tokens = Buckets(data.lengths, per_group)
    by_cost = Buckets(data.lengths, per_group * mean_cost / float(data.lengths.mean()), cost)
    drawn: dict[str, Callable[[int], Dealt]] = {
        "equal tokens": lambda step: token_balanced(_sizes(data, tokens, step), case.groups),
        "naive": lambda step: round_robin(_sizes(data, tokens, step), case.groups),
        "buckets, by tokens": lambda step: by_tokens.step(case.groups, rng),
        "buckets, by cost": lambda step: by_cost.step(case.groups, rng),
    }
    for side, dealt in drawn.items():
        result.say(f"{case}: {side}")
        waits[side] = _theirs(result, case, side, dealt, cost, options.steps)
    for side in drawn:
        slower = [(1 + theirs) / (1 + ours) for theirs, ours in zip(waits[side], waits["goku, free"], strict=True)]
        ratio = {"side": "goku, free", "against": side, "ratio": float(np.median(slower))}
        low_high = {"low": min(slower), "high": max(slower), "repeats": len(slower)}
        result.ratios.append({"case": str(case)} | ratio | low_high)


def _ours(result: Result, case: Case, data: DataSet, cost: Cost, rounds: Rounds, steps: int) -> list[float]:
    result.say(f"{case}: goku, {rounds}")
    tokens, found, seconds, walks = case.tokens * case.ranks, [], [], []
    plan(data.lengths, data.mix, tokens, SEED, 0, case.groups, cost, case.pack_tokens, rounds)  # means, first epoch
    for step in range(steps):
        begun = time.perf_counter()
        rows = rows_of_step(data.lengths, data.mix, tokens, SEED, step)
        walked = time.perf_counter()
        packs = arrange(data.lengths, rows, case.groups, cost, case.pack_tokens, rounds)
        seconds.append(time.perf_counter() - begun)
        walks.append(walked - begun)
        found.append(balance(packs, data.lengths, cost, rounds, ALIGN * case.sp))
    imbalance = [one.imbalance for one in found]
    result.rows.append(
        {"case": str(case), "side": f"goku, {rounds}"}
        | _spread(imbalance)
        | {"padding_percent": 100 * float(np.mean([one.padding for one in found]))}
        | {"planner_ms": 1000 * float(np.median(seconds)), "planner_p99_ms": 1000 * float(np.percentile(seconds, 99))}
        | {"of_it_walk_ms": 1000 * float(np.median(walks)), "planner_most_ms": 1000 * max(seconds)}
        | {"packs_a_group": float(np.mean([one.packs for one in found])), "samples_a_step": len(rows)}
        | {"beyond_balance_percent": 100 * float(np.mean([one.dearest > 1 for one in found]))}
    )
    return imbalance


def _theirs(
    result: Result, case: Case, side: str, dealt: Callable[[int], Dealt], cost: Cost, steps: int
) -> list[float]:
    imbalance, padding = [], []
    for step in range(steps):
        groups = dealt(step)
        costs = np.array([sum(_cost(pack, cost) for pack in own) for own in groups])
        imbalance.append(float(costs.max() / costs.mean()) - 1)
        padding.append(padded_share(groups))
    row = {"case": str(case), "side": side} | _spread(imbalance)
    padded = side == "naive"  # the others pack, or have samples of one length
    result.rows.append(row | {"padding_percent": 100 * float(np.mean(padding)) if padded else 0.0})
    return imbalance


def _cost(pack: np.ndarray, cost: Cost) -> float:
    return float(cost[0] * pack.sum() + cost[1] * np.square(pack, dtype=np.float64).sum())


def _spread(imbalance: list[float]) -> dict[str, float]:
    return {
        "imbalance_percent": 100 * float(np.mean(imbalance)),
        "imbalance_p99_percent": 100 * float(np.percentile(imbalance, 99)),
    }


def _sizes(data: DataSet, tokens: int, step: int) -> np.ndarray:
    """Lengths of a step's samples in an order without meaning (the walk names one kind after the other)."""
    size = data.lengths[rows_of_step(data.lengths, data.mix, tokens, SEED, step)]
    return np.random.default_rng(step).permutation(size)


if __name__ == "__main__":
    main()
