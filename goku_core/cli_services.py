"""`goku up`, `goku down`: the servers of a workspace, and what `goku status` says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]


def up(
    host: Annotated[
        str, typer.Option(help="Address Prefect's server listens on; beyond this machine only with a password")
    ] = "127.0.0.1",
    prefect_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of Prefect's server; default: as last time, else 4200")
    ] = None,
    mlflow_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of MLflow's server; default: as last time, else 5000")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until everything must serve")] = 120.0,
    schedules: Annotated[
        bool | None,
        typer.Option("--schedules/--no-schedules", help="Switch the schedules of prefect.yaml; default: as they are"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start Prefect's server, MLflow's server and a worker, and register all deployments. What serves is left alone.

    Examples: goku up · goku up --prefect-port 4300 --mlflow-port 5300 · goku up --schedules
    """
    from goku_core.services import look
    from goku_core.services.up import Wanted
    from goku_core.services.up import up as start

    done = start(Path.cwd(), Wanted(host, prefect_port, mlflow_port, timeout, schedules), _say)
    if as_json:
        typer.echo(json.dumps(done))
        return
    found = look.facts(Path.cwd())
    for service in found["services"]:
        if service["url"]:
            typer.echo(f"{service['name']:<8} {service['url']}  {done['services'].get(service['name'], '')}")
    if done["registered"] is None and set(done["services"].values()) == {"running"}:
        typer.echo(f"all was up already: nothing changed ({done['seconds']:.1f} s)")
        return
    registered = "deployments as before" if done["registered"] is None else f"{done['registered']} deployments"
    typer.echo(f"worker   of the pools cpu and gpu  {done['services']['worker']}; {registered}")
    typer.echo(f"up in {done['seconds']:.1f} s, {done['memory'] / 1e6:.0f} MB. goku status --services · goku down")


def down(
    grace: Annotated[float, typer.Option(min=0, help="Seconds for running flow runs to end before they are killed")] = (
        30.0
    ),
    as_json: Json = False,
) -> None:
    """Stop what `goku up` has started here: running flow runs first, then the worker, then the servers. Data stay.

    Example: goku down
    """
    from goku_core.services.down import down as stop

    done = stop(Path.cwd(), grace, _say)
    if as_json:
        typer.echo(json.dumps(done))
    elif not done["services"]:
        left = f"; {done['swept']} processes that were left over are ended" if done["swept"] else ""
        typer.echo(f"nothing was up here{left}")
    else:
        runs = f"{len(done['runs'])} flow runs cancelled; " if done["runs"] else ""
        typer.echo(f"down. {runs}runs, metrics and models are kept and there again after goku up")


def show(as_json: bool) -> None:
    """What `goku status --services` prints."""
    from goku_core.services import look

    found = look.facts(Path.cwd())
    if as_json:
        typer.echo(json.dumps(found))
        return
    console = Console(markup=False)
    if {one["state"] for one in found["services"]} == {"stopped"}:
        console.print("no servers are up here: goku up")
        return
    services = Table("service", "state", "at", "process", "since (UTC)")
    for one in found["services"]:
        since = (one["since"] or "")[:16].replace("T", " ")
        services.add_row(one["name"], one["state"], one["url"] or "", str(one["pid"] or ""), since)
    console.print(services)
    if found["queue"] is not None:
        waiting = ", ".join(f"{number} {name}" for name, number in found["queue"].items())
        console.print(f"flow runs: {waiting}")
    if found["runs"]:
        runs = Table("last runs", "state", "start (UTC)", "took")
        for run in found["runs"]:
            runs.add_row(run["name"], run["state"], (run["start"] or "")[:16].replace("T", " "), _took(run))
        console.print(runs)
    for run in found["waiting"] or []:
        console.print(f"waits for an answer: {run['name']} {run['url']}", soft_wrap=True)
    for one in found["schedules"] or []:
        state = "on" if one["active"] else "off (goku up --schedules)"
        console.print(f"schedule {one['name']}: {one['cron']} {one['timezone']}, {state}")
    if rules := found["automations"]:
        console.print("automations: " + ", ".join(one["name"] + ("" if one["enabled"] else " (off)") for one in rules))
    disk = ", ".join(f"{name} {_size(size)}" for name, size in found["disk"].items() if name == "free" or size)
    console.print(f"disk: {disk}", soft_wrap=True)
    if found["memory"]:
        console.print(f"memory: {_size(found['memory'])}")


def _took(run: dict[str, Any]) -> str:
    return f"{run['seconds']:.1f} s" if run["seconds"] else ""


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _say(text: str) -> None:
    typer.echo(text, err=True)
