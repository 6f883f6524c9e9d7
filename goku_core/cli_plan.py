"""`goku plan`: what is done, what would run, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from goku_core.cli_run import Json, Names, Strict, chosen_line, shown_seconds
from goku_core.pipeline.errors import GokuError


def plan(
    names: Names = None,
    strict: Strict = False,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 when there is work to do")] = False,
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
    price: Annotated[float | None, typer.Option(min=0, help="... of one GPU-hour, in any currency")] = None,
    rates: Annotated[Path | None, typer.Option(help="... by the rates in a result of `goku bench roofline`")] = None,
    as_json: Json = False,
) -> None:
    """What is done, what would run, and why. Does no work. With --gpus: what training would need, before there is any GPU.

    Examples: goku plan · goku plan train --gpus 1024 --gpu h200 --preset goku-8b
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
    from goku_core.pipeline.plan import plan as make_plan

    _, line = chosen_line(None)
    _, wanted = chosen_line(names)
    shown = {cell.name for cell in wanted}
    entries = [entry for entry in make_plan(line, Path.cwd(), strict) if entry.cell in shown]
    if as_json:
        typer.echo(json.dumps([entry.as_json() for entry in entries]))
    else:
        table = Table("cell", "plan", "why", "last took")
        for entry in entries:
            why = "\n".join([*entry.why, *entry.notes])
            table.add_row(entry.cell, entry.state, why, shown_seconds(entry.seconds))
        Console(markup=False).print(table)
    if check and any(entry.state != "done" for entry in entries):
        raise typer.Exit(1)
