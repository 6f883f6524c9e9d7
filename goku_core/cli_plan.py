"""`goku plan`: what is done, what would run, and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from goku_core.cli_run import Json, Names, Strict, chosen_line, shown_seconds
from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goku_core.costs.expected import Foreseen, Need, Totals
    from goku_core.pipeline.plan import Entry

LEAST_WIDTH = 112
TOO_MUCH = 3  # exit code: over the budget, or no room on the disk


def plan(
    names: Names = None,
    strict: Strict = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit code 1 when there is work to do, 3 when the disk has no room for it")
    ] = False,
    budget: Annotated[
        str | None, typer.Option(help="Exit code 3 when the work costs more: money (500) or GPU-hours (200h)")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="With `train`: what its phases need on so many GPUs, and whether they fit")
    ] = None,
    gpu: Annotated[str, typer.Option(help="... of which kind: a100, h100, h200, b200")] = "h100",
    preset: Annotated[str | None, typer.Option(help="... of a preset in place of params.yaml")] = None,
    phase: Annotated[str | None, typer.Option(help="... of one phase, in detail")] = None,
    sequence: Annotated[int | None, typer.Option(min=1, help="... with so many GPUs to a pack")] = None,
    shard: Annotated[int | None, typer.Option(min=1, help="... with so many groups to a copy of the weights")] = None,
    reshard: Annotated[
        Literal["after_step", "after_block"] | None,
        typer.Option(help="... with weights gathered for a step or for a block"),
    ] = None,
    recomputation: Annotated[
        Literal["none", "selective", "full"] | None, typer.Option(help="... with this recomputation")
    ] = None,
    pack_tokens: Annotated[int | None, typer.Option(min=16, help="... with so many tokens to a pack at most")] = None,
    memory: Annotated[float | None, typer.Option(min=1, help="... with so many GiB to a GPU")] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="... of one GPU-hour; default: what plan.prices of params.yaml says")
    ] = None,
    rates: Annotated[Path | None, typer.Option(help="... by the rates in a result of `goku bench roofline`")] = None,
    as_json: Json = False,
) -> None:
    """What is done, what would run and why, and what it will cost. Does no work.

    With --gpus: what training would need, before there is any GPU. Prices: `plan.prices` of params.yaml.
    Exit codes: 0 nothing to do (without --check: always), 1 work to do, 2 wrong input, 3 over the budget or no room.

    Examples: goku plan · goku plan --check --budget 500 · goku plan train --gpus 1024 --gpu h200 --preset goku-8b
    """
    if gpus is not None:
        if names != ["train"]:
            raise GokuError("--gpus is for `goku plan train`: the other stages do not run on so many GPUs at once.")
        from goku_core.cli_forecast import Asked, show

        asked = Asked(
            gpus, gpu, preset, phase, sequence, shard, reshard, recomputation, pack_tokens, memory, price, rates
        )
        show(asked, Path.cwd(), as_json)
        return
    told = {"preset": preset, "phase": phase, "sequence": sequence, "shard": shard, "reshard": reshard}
    told |= {
        "recomputation": recomputation,
        "pack-tokens": pack_tokens,
        "memory": memory,
        "price": price,
        "rates": rates,
    }
    if alone := [f"--{name}" for name, value in told.items() if value is not None]:
        raise GokuError(f"{', '.join(alone)}: only with --gpus (goku plan train --gpus 8).")
    from goku_core.costs.expected import needs, over_budget, totals
    from goku_core.pipeline.plan import plan as make_plan

    params, line = chosen_line(None)
    _, wanted = chosen_line(names)
    shown = {cell.name for cell in wanted}
    entries = [entry for entry in make_plan(line, Path.cwd(), strict) if entry.cell in shown]
    found = needs(entries, line, Path.cwd(), params.plan, _forecast)
    total = totals(entries, found, Path.cwd(), params.plan)
    excess = over_budget(budget, total) if budget is not None else None
    if as_json:
        cells = [entry.as_json() | {"expected": asdict(need)} for entry, need in zip(entries, found, strict=True)]
        typer.echo(json.dumps({"cells": cells, "totals": total.as_json(), "over_budget": excess}))
    else:
        _print(entries, found, total)
    if excess:
        typer.echo(f"Over the budget: {excess}.", err=True)
    if excess or (check and not total.fits):
        raise typer.Exit(TOO_MUCH)
    if check and any(entry.state != "done" for entry in entries):
        raise typer.Exit(1)


def _print(entries: Sequence[Entry], found: Sequence[Need], total: Totals) -> None:
    table = Table("cell", "plan", "why", "last took", "will need")
    for entry, need in zip(entries, found, strict=True):
        why = "\n".join([*entry.why, *entry.notes])
        table.add_row(entry.cell, entry.state, why, shown_seconds(entry.seconds), _figures(need, total.currency))
    console = Console(markup=False)
    console.width = max(console.width, LEAST_WIDTH)
    console.print(table)
    to_do = [entry for entry in entries if entry.state != "done"]
    if not to_do:
        console.print(f"nothing to do; {total.free_bytes / 1e9:,.1f} GB free", soft_wrap=True)
        return
    least = "at least " if total.unknown else ""
    console.print(
        f"{len(to_do)} of {len(entries)} cells, {least}{shown_seconds(total.seconds)} one after another, "
        f"{total.gpu_hours:,.1f} GPU-hours, {total.money:,.2f} {total.currency}; on disk {total.bytes / 1e9:,.2f} GB of "
        f"{total.free_bytes / 1e9:,.1f} GB free, to keep them {total.storage_month:,.2f} {total.currency} a month",
        soft_wrap=True,
    )
    if total.unknown:
        console.print(f"no figures for: {', '.join(total.unknown)} (never done here)", soft_wrap=True)
    if not total.fits:
        console.print("The disk has no room for it. Free some, or work where there is more.", soft_wrap=True)


def _figures(need: Need, currency: str) -> str:
    if need.basis == "done":
        return ""
    if need.seconds is None or need.money is None:
        time = "?"
    elif need.gpus:
        time = f"{shown_seconds(need.seconds)} on {need.gpus} {need.gpu}\n"
        time += f"{need.gpu_hours:,.1f} GPU-hours, {need.money:,.2f} {currency}"
    else:
        time = f"{shown_seconds(need.seconds)}, {need.money:,.2f} {currency}"
    return time + ("" if need.bytes is None else f"\n{need.bytes / 1e9:,.2f} GB")


def _forecast(phase: str, gpus: int, kind: str) -> Foreseen:
    """Of a phase on so many GPUs of a kind."""
    from goku_core.cli_forecast import Asked, forecasts
    from goku_core.costs.expected import Foreseen

    (found,) = forecasts(Asked(gpus, kind, phase=phase), Path.cwd())
    if found.obstacle:
        raise GokuError(f"{phase} {found.obstacle}")
    return Foreseen(found.days * 86400, found.saving.bytes)
