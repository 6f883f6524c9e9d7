"""`goku run`, `status`, `report`: do the work, and say what was done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from goku_core.pipeline.errors import GokuError, StageFailed

if TYPE_CHECKING:
    from goku_core.config import Params
    from goku_core.pipeline.commit import Record
    from goku_core.pipeline.line import Cell

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]
Strict = Annotated[bool, typer.Option("--strict", help="Work done by other code does not count as done")]
Changes = Annotated[
    Path | None,
    typer.Option(help='JSON of other values for this run alone: {"train": {"phases": {"joint_low": {"steps": 40}}}}'),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[STAGE]...", help="Stages or cells (train@joint_low); none: the whole line"),
]


def run(
    names: Names = None,
    no_flow: Annotated[bool, typer.Option("--no-flow", help="Run in this process, without Prefect")] = False,
    driver: Annotated[str, typer.Option(help="Who asks: direct, dvc or prefect (goes into the record)")] = "direct",
    driver_run: Annotated[str | None, typer.Option(help="The driver's own id for this run")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Where the big maps run: local, or ray (the cluster at RAY_ADDRESS); default: GOKU_ENGINE"),
    ] = None,
    changes: Changes = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Do the work that has not been done yet; finished work is found by its fingerprint, whoever did it.

    With --json a list: one object for each cell, and last of a run that failed the failure (status: failed).

    Examples: goku run · goku run curate vae · goku run train@joint_low --no-flow · goku run curate --engine ray ·
    goku run train --changes more.json
    """
    if driver not in ("direct", "dvc", "prefect"):
        raise GokuError(f"--driver {driver}: must be direct, dvc or prefect.")
    if engine is not None:
        from goku_core.pipeline.pool import choose_engine

        choose_engine(engine)
    workspace = Path.cwd()
    wanted = _read(changes)
    params, cells = chosen_line(names, wanted)
    if not no_flow:
        _run_flow(workspace, cells, strict, as_json, changes, wanted)
        return
    from goku_core import tracking
    from goku_core.pipeline.executor import execute

    outcomes = []
    try:
        with _turn(workspace, driver):
            for cell in cells:
                outcomes.append(
                    execute(
                        cell,
                        workspace,
                        driver,
                        driver_run=driver_run,
                        open_tracker=tracking.opener(params.tracking),
                        strict=strict,
                        changes=_of_cell(cell, params) if wanted else None,
                    )
                )
    except StageFailed as error:
        if as_json:
            error.before = [outcome.as_json() for outcome in outcomes]
            typer.echo(json.dumps(error.as_json()))
        raise
    if as_json:
        typer.echo(json.dumps([o.as_json() for o in outcomes]))


@contextmanager
def _turn(workspace: Path, driver: str) -> Iterator[None]:
    """While another driver has the line this one waits, and says so."""
    from goku_core.pipeline.versions.turns import shared, take_for_dvc, waits_for

    if driver == "dvc" and take_for_dvc(workspace, waits_for("dvc repro")):
        yield
    else:
        with shared(workspace, waits_for("goku run")):
            yield


def sources(as_json: Json = False) -> None:
    """Digests of what stages read from outside of the line: own media, pretrained weights. The first stage of `dvc repro`.

    Writes records/sources/STAGE.json, on which DVC's stages depend: it sees a change there as goku does.

    Example: goku sources --json
    """
    from goku_core.pipeline.versions import sources as outside

    _, line = chosen_line(None)
    with _turn(Path.cwd(), "dvc"):
        found = outside.write(line, Path.cwd())
    if as_json:
        typer.echo(json.dumps(found))


def chosen_line(names: list[str] | None, changes: dict[str, Any] | None = None) -> tuple[Params, list[Cell]]:
    from goku_core import config
    from goku_core.pipeline import line

    params = config.load_params("params.yaml", changes)
    return params, line.select(line.cells(params), names or [])


def _read(changes: Path | None) -> dict[str, Any] | None:
    if changes is None:
        return None
    from goku_core.changes import read_changes

    return read_changes(changes)


def _of_cell(cell: Cell, params: Params) -> dict[str, Any]:
    from goku_core import config
    from goku_core.changes import of_cell

    return of_cell(config.load_params(), params, cell.name)


def _run_flow(
    workspace: Path, cells: list[Cell], strict: bool, as_json: bool, file: Path | None, changes: dict[str, Any] | None
) -> None:
    """Hand the cells to the Prefect flow, in a process of its own: the library never imports it."""
    from goku_core.pipeline.executor import find_done
    from goku_core.pipeline.plan import plan
    from goku_core.services.records import prefect_api

    server = os.environ.get("PREFECT_API_URL") or prefect_api(workspace)
    if not server:
        _, line = chosen_line(None, changes)
        wanted = {cell.name for cell in cells}
        entries = [entry for entry in plan(line, workspace, strict) if entry.cell in wanted]
        if all(entry.state == "done" for entry in entries):
            # Nobody could look at the run of a server that ends with it: do not start one (20 s) for nothing.
            with _turn(workspace, "direct"):  # each says so itself, and takes over what was pulled from another clone
                found = [find_done(cell, workspace, strict) for cell in cells]
            outcomes = [outcome for outcome in found if outcome]
            if len(outcomes) == len(cells):  # else somebody has changed it meanwhile: there is work after all
                if as_json:
                    typer.echo(json.dumps([outcome.as_json() for outcome in outcomes]))
                return
    environment = os.environ | {
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # its default of 20 s is too short on small machines
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    if server:
        environment["PREFECT_API_URL"] = server
        if secret := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
            environment.setdefault("PREFECT_API_AUTH_STRING", secret)
    else:
        environment["PREFECT_HOME"] = str(workspace / ".goku" / "prefect")
        environment["PREFECT_SERVER_LOGGING_LEVEL"] = "CRITICAL"  # it complains of its own shutdown
        environment.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # the cells speak for themselves
        typer.echo("starting a Prefect server for this run (set PREFECT_API_URL to use a running one)", err=True)
    command = [sys.executable, "-m", "flows.line", *(cell.name for cell in cells)]
    if strict:
        command.append("--strict")
    if as_json:
        command.append("--json")
    if file:
        command += ["--changes", str(file.resolve())]
    code = subprocess.run(command, cwd=workspace, env=environment, check=False).returncode
    if code:
        raise typer.Exit(code if code in (1, 2) else 1)


def status(
    services: Annotated[
        bool, typer.Option("--services", help="Only the servers: addresses, health, queue, last runs, disk")
    ] = False,
    as_json: Json = False,
) -> None:
    """Per cell: its newest record, what it wrote, where its metrics are; and what `goku up` has started.

    With --json a list of the cells, or with --services an object.

    Examples: goku status · goku status --services --json
    """
    from goku_core import cli_services

    if services:
        cli_services.show(as_json)
        return
    from goku_core.pipeline.commit import Workspace
    from goku_core.pipeline.plan import plan as make_plan

    _, line = chosen_line(None)
    with Workspace(Path.cwd()) as place:
        newest = {record.cell: record for record in place.records()}
        facts = []
        for entry in make_plan(line, place.root):
            name = entry.fingerprint
            stage = entry.cell.split("@")[0]
            record = (place.record(stage, name) if name else None) or newest.get(entry.cell)
            facts.append(
                {
                    "cell": entry.cell,
                    "state": entry.state,
                    "fingerprint": record.fingerprint if record else None,
                    "finished": record.value["finished"] if record else None,
                    "driver": record.value["driver"] if record else None,
                    "seconds": record.seconds if record else None,
                    "mlflow_run": _mlflow_run(place.root, record) if record else None,
                    "outputs": {
                        path: {"digest": tree.digest, "files": len(tree.files), "bytes": tree.bytes}
                        for path, tree in (record.outputs if record else {}).items()
                    },
                    "report": record.report if record else None,
                }
            )
    if as_json:
        typer.echo(json.dumps(facts))
        return
    table = Table("cell", "plan", "record", "finished (UTC)", "by", "took", "outputs")
    for fact in facts:
        outputs = "\n".join(f"{p} ({o['files']} files, {o['bytes'] / 1e6:.1f} MB)" for p, o in fact["outputs"].items())
        table.add_row(
            fact["cell"],
            fact["state"],
            (fact["fingerprint"] or "")[:12],
            (fact["finished"] or "")[:16].replace("T", " "),
            fact["driver"] or "",
            shown_seconds(fact["seconds"]),
            outputs,
        )
    Console(markup=False).print(table)
    cli_services.show(as_json=False)


def _mlflow_run(workspace: Path, record: Record) -> str | None:
    """As mirrored from here; of a record that another clone made, as it says itself."""
    from goku_core import tracking

    return tracking.run_id(workspace, record.fingerprint) or record.value.get("mlflow_run")


def report(as_json: Json = False) -> None:
    """Build reports/index.html (one page with pictures, no network needed) and print the table of the line.

    Example: goku report
    """
    from goku_core import report as pages

    page = pages.build(Path.cwd())
    if as_json:
        typer.echo(json.dumps({"page": str(page)}))
        return
    pages.print_table(Path.cwd())
    typer.echo(f"{page}")


def shown_seconds(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 3 * 3600:
        return f"{value / 3600:,.1f} h"
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {value % 60:.0f} s"
