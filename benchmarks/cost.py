"""Seconds of a block, forward and backward, over packs of unlike samples: what a sample of n tokens costs.

Measures the claim that a*n + b*n^2 tells the time of a pack (R^2 at least 0.99), and finds a and b for this machine: they go
into params.yaml as `train.cost`, by which groups of ranks get equal work. Packs of equal tokens in one sample and in many
show what a plan by tokens alone would get wrong; their ratio is printed. `--params` measures the network of the
params.yaml in this folder.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from benchmarks.block import Blocks, Step
from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.packs import SMALL_CONFIG, TEXT_LENGTHS, Grid, Pack
from benchmarks.measuring.result import Result
from goku_core.models import CONFIGS, GokuConfig
from goku_core.packing import fit, flop_cost

CLAIM = "Seconds of a block, forward and backward, by the lengths of the samples in its pack: a*n + b*n^2 and how well it fits"
ROW = 32  # tokens in a row of a sample's grid
BUDGETS = {"cpu": (1024, 4096), "cuda": (8192, 65_536)}
PARTS = (1, 4, 16)  # samples of one budget of tokens


def main(arguments: list[str] | None = None) -> Result:
    options = parser("cost", __doc__)
    options.add_argument("--model", choices=tuple(CONFIGS), default="2b", help="whose block [2b]")
    options.add_argument("--params", action="store_true", help="the block of train.model in ./params.yaml instead")
    options.add_argument("--budgets", type=int, nargs="+", help="tokens of a pack [CPU: 1024 4096; cuda: 8192 65536]")
    options = settle(options.parse_args(arguments))
    result = Result("cost", CLAIM, options)
    config = SMALL_CONFIG if options.small else _config(options)
    measure(result, config, options)
    result.finish()
    return result


def measure(result: Result, config: GokuConfig, options: argparse.Namespace) -> None:
    budgets = options.budgets or ((64,) if options.small else BUDGETS[options.device])
    blocks = Blocks(replace(config, depth=1), argparse.Namespace(**vars(options), compile=False), result.device)
    packs, seconds = [], []
    for budget in budgets[:1] if options.quick else budgets:
        sides = {_name(parts): pack for parts in PARTS if (pack := _pack(budget, parts, options.small))}
        steps: dict[str, Step] = {name: blocks.ours([pack]) for name, pack in sides.items()}
        pairs = [(name, _name(1)) for name in sides if name != _name(1)]
        repeats = options.repeats or (3 if options.small or options.quick else 7)
        case = f"{budget} tokens"
        timings = result.measure(case, steps, pairs, repeats=repeats, per_call={"tokens": float(budget)})
        packs += [pack.lengths for pack in sides.values()]
        seconds += [timings[name].median for name in sides]
    found, (linear, quadratic) = fit(packs, seconds), flop_cost(config.width, config.ffn)
    result.note(
        f"fit over {len(packs)} packs: {found.linear:.4g} s a token, {found.quadratic:.4g} s a pair, R^2 {found.r_squared:.5f}, "
        f"worst error {100 * found.worst:.1f} %"
    )
    result.note(
        f"b/a {found.quadratic / found.linear if found.linear else float('inf'):.3g} measured, {quadratic / linear:.3g} by FLOP"
    )
    result.note(f"params.yaml: train: cost: {{linear: {found.linear:.6g}, quadratic: {found.quadratic:.6g}}}")


def _config(options: argparse.Namespace) -> GokuConfig:
    if not options.params:
        return CONFIGS[options.model]
    from goku_core.config import load_params

    size = load_params().train.model
    if size.name != "custom":
        return CONFIGS[size.name]
    return GokuConfig(depth=size.depth, width=size.width, heads=size.heads, ffn=size.ffn)


def _pack(budget: int, parts: int, small: bool) -> Pack | None:
    """`parts` equal samples of `budget` tokens in all; None where they do not divide into rows."""
    row = 2 if small else ROW
    rows, rest = divmod(budget, parts * row)
    if rest or not rows:
        return None
    grid: Grid = (1, rows, row)
    return Pack((grid,) * parts, tuple(TEXT_LENGTHS[i % len(TEXT_LENGTHS)] for i in range(parts)))


def _name(parts: int) -> str:
    return "one sample" if parts == 1 else f"{parts} samples"


if __name__ == "__main__":
    main()
