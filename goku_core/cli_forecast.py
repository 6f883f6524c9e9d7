"""`goku plan train --gpus N`: what the phases of the curriculum need on so many GPUs, and whether they fit."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.config import Params
    from goku_core.forecast.arrangement import Arrangement
    from goku_core.forecast.devices import Device, Rates
    from goku_core.forecast.lengths import Lengths
    from goku_core.forecast.phase import Forecast
    from goku_core.models import GokuConfig
    from goku_core.train.request import Phase, TrainRequest

LEAST_WIDTH = 112


@dataclass(frozen=True)
class Asked:
    """What the command line says; None: what params.yaml says."""

    gpus: int
    gpu: str
    preset: str | None = None
    phase: str | None = None
    sequence: int | None = None
    shard: int | None = None
    reshard: str | None = None
    recomputation: str | None = None
    pack_tokens: int | None = None
    memory: float | None = None
    price: float | None = None
    rates: Path | None = None


def show(asked: Asked, workspace: Path, as_json: bool) -> None:
    """Prints the forecast. Raises `GokuError` where a phase does not fit, behind the table."""
    found = forecasts(asked, workspace)
    if asked.price is None:
        asked = replace(asked, price=_params(asked.preset).plan.prices.gpu_hour.get(asked.gpu))  # type: ignore[call-overload]
    price = asked.price
    if as_json:
        costs = [{"cost": None if price is None else one.gpu_hours * price} for one in found]
        typer.echo(json.dumps([one.as_json() | cost for one, cost in zip(found, costs, strict=True)]))
    else:
        _print(found, asked)
    refused = [one for one in found if one.obstacle]
    if refused:
        raise GokuError("\n".join(_refusal(one) for one in refused))


def forecasts(asked: Asked, workspace: Path) -> list[Forecast]:
    """One for each phase asked for, in order."""
    from goku_core.forecast.devices import device, with_memory
    from goku_core.forecast.network import count, latent_channels, text_width
    from goku_core.forecast.phase import forecast
    from goku_core.train.network import network_config

    params = _params(asked.preset)
    if asked.phase is not None and asked.phase not in params.train.phases:
        raise GokuError(f"--phase {asked.phase}: there is no such phase. Phases: {', '.join(params.train.phases)}.")
    gpu = with_memory(device(asked.gpu), asked.memory)
    channels, width = latent_channels(params), text_width(params)
    made = []
    for name, phase in params.train.phases.items():
        if asked.phase not in (None, name):
            continue
        request = params.train.for_phase(name)
        config = network_config(request, phase, channels, width)
        lengths = _lengths(params, phase.resolution, None if asked.preset else workspace)
        rates = _rates(asked, gpu, config, request.model.name)
        arranged = _arranged(request, asked, phase)
        counted = count(config, request, phase.freeze)
        made.append(forecast(name, phase, config, counted, lengths, arranged, gpu, rates, params.seed))
    return made


def _params(preset: str | None) -> Params:
    from goku_core import config
    from goku_core.cli_params import preset_file

    return config.load_params(preset_file(preset)) if preset else config.load_params()


def _lengths(params: Params, resolution: str, workspace: Path | None) -> Lengths:
    from goku_core.forecast.lengths import from_index, stated

    found = from_index(workspace / "data/latents" / resolution) if workspace else None
    return found or stated(params.precompute.resolutions[resolution], params.precompute.text.max_tokens)


def _rates(asked: Asked, gpu: Device, config: GokuConfig, model: str) -> Rates:
    from goku_core.forecast.devices import measured, published, result_file

    file = asked.rates or result_file(gpu, Path(__file__).resolve().parents[1] / "benchmarks/results")
    return measured(file, model) if file else published(gpu, config.width, config.head_width)


def _arranged(request: TrainRequest, asked: Asked, phase: Phase) -> Arrangement:
    from goku_core.forecast.arrangement import NODE, Arrangement

    told = request.parallel_of(phase)
    sequence = asked.sequence or told.sequence
    here = min(NODE, asked.gpus)
    plain = Arrangement(
        gpus=asked.gpus,
        # As `train.parallel` does where it is not given: one copy of the weights per machine.
        shard=asked.shard or told.shard or max(1, here // sequence),
        sequence=sequence,
        reshard=told.reshard,
        recomputation=told.recomputation,
        pack_tokens=asked.pack_tokens or phase.pack_tokens,
    )
    changes: dict[str, Any] = {"reshard": asked.reshard, "recomputation": asked.recomputation}
    return replace(plain, **{key: value for key, value in changes.items() if value is not None})


def _refusal(one: Forecast) -> str:
    if one.advice:
        return f"{one.phase}: {one.obstacle}. The least change that fits: {', '.join(one.advice)}."
    return (
        f"{one.phase}: {one.obstacle}. No arrangement of {one.arrangement.gpus} GPUs fits: take more, or larger ones."
    )


def _print(found: list[Forecast], asked: Asked) -> None:
    from goku_core.forecast.memory import GIB

    console = Console(markup=False)
    console.width = max(console.width, LEAST_WIDTH)
    costs = [] if asked.price is None else ["cost"]
    names = ["phase", "mesh", "GiB", "packs", "step, s", "MFU", "days", "GPU-hours", *costs, "save, steps"]
    table = Table(*names, box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for one in found:
        mesh = one.arrangement
        table.add_row(
            one.phase,
            f"{mesh.replicas} x {mesh.shard} x {mesh.sequence}",
            f"{one.memory.total / GIB:.1f}" + (" !" if one.obstacle else ""),
            f"{one.packs.packs:.0f}",
            f"{one.step.total:.2f}",
            f"{100 * one.step.mfu:.0f} %",
            f"{one.days:.1f}",
            f"{one.gpu_hours:,.0f}",
            *([] if asked.price is None else [f"{one.gpu_hours * asked.price:,.0f}"]),
            f"{one.saving.every_steps}",
        )
    console.print(table)
    hours = sum(one.gpu_hours for one in found)
    total = f"{sum(one.days for one in found):.1f} days, {hours:,.0f} GPU-hours"
    console.print(f"all: {total}" + ("" if asked.price is None else f", cost {hours * asked.price:,.0f}"))
    if asked.phase is not None:
        _details(found[0], console)
    console.print(
        f"GPU: {asked.gpus} x {asked.gpu}; mesh: replicas x groups that share weights x sequence", soft_wrap=True
    )
    for label, values in (("lengths", [one.lengths for one in found]), ("rates", [one.rates for one in found])):
        for value in dict.fromkeys(values):
            console.print(f"{label}: {value}", soft_wrap=True)


def _details(one: Forecast, console: Console) -> None:
    table = Table("of a GPU", "GiB", box=box.SIMPLE_HEAD)
    for name, value in (one.memory.gigabytes() | {"free": one.free / 2**30}).items():
        table.add_row(name, f"{value:.2f}")
    console.print(table)
    packs, step, saving = one.packs, one.step, one.saving
    console.print(
        f"a step: {packs.samples:.0f} samples; a pack is {100 * packs.fill:.0f} % full; the dearest group has "
        f"{100 * packs.imbalance:.1f} % more to do than the mean; {packs.idle_groups:.0f} groups have nothing to do"
    )
    console.print(
        f"seconds: kernels {step.kernels:.2f}, exchange within a sequence group {step.sequence:.2f}, weights and gradients "
        f"{step.weights:.2f} (hidden behind kernels as far as these last), optimizer {step.update:.3f}"
    )
    console.print(
        f"a checkpoint: {saving.bytes / 1e9:.0f} GB, {saving.stall:.2f} s of waiting, stored after {saving.stored:.0f} s; "
        f"best every {saving.every_seconds:.0f} s"
    )
