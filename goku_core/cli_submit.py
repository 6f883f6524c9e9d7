"""`goku submit`: hands a stage's work to a Kubernetes cluster, or shows what would be handed over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
import yaml

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.config import Params
    from goku_core.forecast.phase import Forecast
    from goku_core.submit.order import Manifest, Order

IMAGE = "GOKU_IMAGE"


def submit(
    stage: Annotated[
        Literal["curate", "vae", "precompute", "train", "evaluate"],
        typer.Argument(
            help="curate, vae, precompute, train or evaluate: one stage to a job, each when the one before is done"
        ),
    ],
    preset: Annotated[
        str | None, typer.Option(help="Parameters of a preset; default: params.yaml of this folder")
    ] = None,
    nodes: Annotated[
        int, typer.Option(min=1, help="Machines: of 8 GPUs (train), of one (precompute), of 8 processors (curate)")
    ] = 1,
    gpu: Annotated[Literal["a100", "h100", "h200"], typer.Option(help="Node pool of a training")] = "h100",
    phase: Annotated[
        list[str] | None, typer.Option(help="A phase of the training, may be repeated; default: all, in order")
    ] = None,
    image: Annotated[
        str | None, typer.Option(envvar=IMAGE, help="The image by digest: REGISTRY/NAME@sha256:...")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of infra/kubernetes")] = "goku",
    queue: Annotated[str | None, typer.Option(help="Kueue's queue; default: training, or spot")] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="Of one GPU-hour, in any currency; default: plan.prices of params.yaml")
    ] = None,
    context: Annotated[str | None, typer.Option(help="kubectl's context")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print exactly what would be applied; touch nothing")
    ] = False,
    diff: Annotated[str | None, typer.Option(help="Print what another preset's manifests have otherwise")] = None,
) -> None:
    """Give a stage's work to Kubernetes (docs/kubernetes.md): manifests to standard output, what they take to standard error.

    Equal work has an equal name: submitted twice, it runs once. Exit code 2 where the training would not fit its GPUs.

    Examples: goku submit train --preset goku-8b --nodes 16 --dry-run · goku submit train --preset goku-8b --nodes 64 --diff goku-2b
    """
    from goku_core.submit.apply import apply
    from goku_core.submit.order import NO_IMAGE
    from goku_core.submit.text import difference, rendered

    if stage != "train" and phase:
        raise GokuError("--phase: only a training has phases.")
    asked = _Asked(stage, preset, nodes, gpu, phase or [], image or NO_IMAGE, namespace, queue, price)
    made, summary = _made(asked)
    text = rendered(made)
    if diff is not None:
        other, _ = _made(_Asked(**(vars(asked) | {"preset": diff})))
        typer.echo(difference(text, rendered(other), (preset or "params.yaml", diff)), nl=False)
        return
    typer.echo("\n".join(summary), err=True)
    if dry_run:
        typer.echo(text, nl=False)
        return
    if image is None:
        raise GokuError(f"--image (or {IMAGE}): name the image by its digest, REGISTRY/NAME@sha256:...")
    typer.echo(apply(text, context), nl=False)


@dataclass
class _Asked:
    stage: str
    preset: str | None
    nodes: int
    gpu: str
    phases: list[str]
    image: str
    namespace: str
    queue: str | None
    price: float | None


def _made(asked: _Asked) -> tuple[list[Manifest], list[str]]:
    """Manifests, and lines that say what they take."""
    from goku_core.submit import curate, single

    if asked.stage == "train":
        return _training(asked)
    text, params = _parameters(asked.preset, {})
    if asked.stage in curate.CELLS:
        if asked.stage == "precompute" and asked.preset is None:
            _require_vae(params)
        worker = curate.worker_for(asked.stage, params)
        order = _order(asked, params, text, [asked.stage], worker.pool, "spot")
        each = f"{worker.gpus} GPU" if worker.gpus else f"{worker.processors} processors"
        told = f"{order.name}: {asked.nodes} x {each}, {worker.gigabytes} GiB of {worker.pool}, and a head"
        return curate.manifests(order, worker), [told, _image_line(order)]
    place = single.PLACES[asked.stage]
    order = _order(asked, params, text, [asked.stage], place.pool, "spot")
    each = f"{place.gpus} GPU" if place.gpus else f"{place.cpu} processors"
    return single.manifests(order), [f"{order.name}: {each} of {place.pool}", _image_line(order)]


def _require_vae(params: Params) -> None:
    """Raises `GokuError` where this folder holds the clips, and models/vae is missing or was made of others."""
    from goku_core.pipeline import line
    from goku_core.pipeline.plan import plan

    if not Path("data/clips.parquet").is_file():
        return  # the workspace lies elsewhere, and what it holds cannot be known here
    (vae,) = plan(line.select(line.cells(params), ["vae"]), Path.cwd())
    if vae.state != "done":
        raise GokuError(
            f"precompute encodes with models/vae, and there is none of these parameters and clips here "
            f"({'; '.join(vae.why)}): `goku submit vae` first (or `goku run vae`), then submit precompute again."
        )


def _training(asked: _Asked) -> tuple[list[Manifest], list[str]]:
    from goku_core.cli_forecast import Asked, forecasts
    from goku_core.submit import train
    from goku_core.submit.order import GPUS

    changes: dict[str, object] = {"train.parallel.nodes": asked.nodes, "train.parallel.ranks_per_node": GPUS}
    _, params = _parameters(asked.preset, changes)
    phases = asked.phases or list(params.train.phases)
    if unknown := [name for name in phases if name not in params.train.phases]:
        raise GokuError(f"--phase {unknown[0]}: there is no such phase. Phases: {', '.join(params.train.phases)}.")
    gpus = asked.nodes * GPUS
    found = [
        one for one in forecasts(Asked(gpus, asked.gpu, asked.preset), Path.cwd()) if one.phase in phases
    ]  # fmt: skip
    if refused := [one for one in found if one.obstacle]:
        raise GokuError("\n".join(_refusal(one) for one in refused))
    grace = max(train.grace_seconds(found), round(params.train.faults.grace_seconds))
    text, params = _parameters(asked.preset, changes | {"train.faults.grace_seconds": grace})
    cells = [f"train@{name}" for name in params.train.phases if name in phases]
    order = _order(asked, params, text, cells, asked.gpu, "training")
    return train.manifests(order, grace), _summary(order, found, grace, _price(asked, params), asked)


def _price(asked: _Asked, params: Params) -> float | None:
    """Of a GPU-hour: what the command line says, else the price table of the parameters, else what a run is counted with."""
    if asked.price is not None:
        return asked.price
    table = params.plan.prices.gpu_hour
    return table.get(asked.gpu) or params.train.faults.price_per_gpu_hour or None


def _parameters(preset: str | None, changes: dict[str, object]) -> tuple[str, Params]:
    """The text of the parameters with the changes of this job, and what it says."""
    from goku_core import config
    from goku_core.cli_params import preset_file
    from goku_core.params_text import with_value

    file = preset_file(preset) if preset else Path("params.yaml")
    config.load_params(file)
    text = file.read_text(encoding="utf-8")
    for key, value in changes.items():
        text = with_value(text, key, value)
    return text, config.checked(yaml.safe_load(text), f"{file} for this job")


def _order(asked: _Asked, params: Params, text: str, names: list[str], pool: str, queue: str) -> Order:
    from goku_core.pipeline import line
    from goku_core.pipeline.code import git
    from goku_core.pipeline.files import digest_json
    from goku_core.submit.order import Order

    requests = {
        cell.name: digest_json([cell.stage, cell.revision, cell.request_json(), cell.seed])
        for cell in line.select(line.cells(params), names)
    }
    state = git(Path.cwd())
    commit = f"{state['commit']}{' (changed since)' if state['dirty'] else ''}" if state else ""
    return Order(
        asked.stage, asked.preset or "params", text, list(requests), asked.nodes, pool, asked.queue or queue, asked.image,
        asked.namespace, commit, requests,
    )  # fmt: skip


def _refusal(one: Forecast) -> str:
    least = f" The least change that fits: {', '.join(one.advice)}." if one.advice else ""
    return f"{one.phase}: {one.obstacle}.{least} Nothing was submitted (goku plan train --gpus N shows more)."


def _summary(order: Order, found: list[Forecast], grace: int, price: float | None, asked: _Asked) -> list[str]:
    from goku_core.forecast.memory import GIB
    from goku_core.submit.order import GPUS
    from goku_core.submit.train import LEAVE_SECONDS

    lines = [f"{order.name}: {asked.nodes} x {GPUS} {asked.gpu}, queue {order.queue}"]
    for one in found:
        cost = "" if price is None else f", cost {one.gpu_hours * price:,.0f}"
        lines.append(
            f"  {one.phase}: {one.memory.total / GIB:.0f} of {(one.free) / GIB:.0f} GiB, step {one.step.total:.1f} s, "
            f"{one.days:.1f} days, {one.gpu_hours:,.0f} GPU-hours{cost}"
        )
    hours = sum(one.gpu_hours for one in found)
    lines.append(f"  all: {hours:,.0f} GPU-hours" + ("" if price is None else f", cost {hours * price:,.0f}"))
    lines.append(
        f"  asked to leave, it ends its step and saves within {grace} s; Kubernetes waits {grace + LEAVE_SECONDS} s"
    )
    lines += [f"  rates: {source}" for source in dict.fromkeys(one.rates for one in found)]
    return [*lines, _image_line(order)]


def _image_line(order: Order) -> str:
    from goku_core.submit.order import NO_IMAGE

    missing = order.image == NO_IMAGE
    return f"  image: none named yet (--image or {IMAGE})" if missing else f"  image: {order.image}"
