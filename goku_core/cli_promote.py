"""`goku promote`, `goku rollback` and `goku registry`: which model is champion, why, and how to change that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from goku_core.config import load_params
from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.promote import Request
    from goku_core.promote.ledger import Entry

registry = typer.Typer(help="The ledger of promotions and its mirror in MLflow.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
Because = Annotated[str, typer.Option(help="Why: goes into the ledger")]


def promote(
    by_hand: Annotated[
        int | None, typer.Option(metavar="VERSION", help="Make this refused version champion although the gate said no")
    ] = None,
    because: Because = "",
    as_json: Json = False,
) -> None:
    """Bundle the evaluated models, ask the gate, write the ledger, set the alias. Exit code 1 where the gate refuses.

    Example: goku promote
    """
    workspace = Path.cwd()
    if by_hand is not None:
        from goku_core.promote import promotion

        if not because:
            raise GokuError("--by-hand needs --because REASON: the ledger keeps why the gate was overruled.")
        _tell(promotion.promote_by_hand(workspace, _request(workspace), by_hand, because), as_json)
        return
    from goku_core import tracking
    from goku_core.pipeline import line
    from goku_core.pipeline.executor import execute
    from goku_core.promote import promotion

    params = load_params(workspace / "params.yaml")
    (cell,) = line.select(line.cells(params), ["promote"])
    outcome = execute(cell, workspace, open_tracker=tracking.opener(params.tracking))
    facts = json.loads((workspace / cell.outputs[0]).read_text(encoding="utf-8"))
    if facts["kept"] and promotion.repair(params.promote, workspace, facts["digest"]):
        typer.echo(f"bundle {facts['digest'][:12]} was damaged or gone: made again", err=True)
    if as_json:
        typer.echo(json.dumps(facts | {"status": outcome.status}))
    else:
        typer.echo(f"version {facts['version']} ({facts['digest'][:12]}) {facts['decision']}: {facts['reason']}")
    _note_another_champion(workspace, facts)
    if facts["decision"] == "refused":
        raise typer.Exit(1)


def rollback(
    to: Annotated[
        int | None, typer.Option(metavar="VERSION", help="A version that has been champion [default: the one before]")
    ] = None,
    because: Because = "",
    as_json: Json = False,
) -> None:
    """Make the previous champion champion again.

    Example: goku rollback --because "colours are off in clips"
    """
    from goku_core.promote import promotion

    workspace = Path.cwd()
    _tell(promotion.rollback(workspace, _request(workspace), to, because), as_json)


@registry.command("ls")
def ls(as_json: Json = False) -> None:
    """Versions with their scores and parts (champion, previous, challenger).

    Example: goku registry ls
    """
    from goku_core.promote import ledger

    workspace = Path.cwd()
    entries = ledger.read(workspace)
    parts: dict[str, list[str]] = {}
    for part, digest in ledger.roles(entries, _alias(workspace)).items():
        if digest:
            parts.setdefault(digest, []).append(part)
    newest = {entry.version: entry for entry in entries}
    rows = [(entry, parts.get(entry.bundle, [])) for _, entry in sorted(newest.items())]
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") | {"parts": having} for entry, having in rows]))
        return
    if not rows:
        typer.echo("No model has been promoted here yet: `make demo` or `goku run` makes the first.")
        return
    table = Table("version", "part", "score (95 % interval)", "bundle", "since (UTC)", box=None, padding=(0, 2, 0, 0))
    for entry, having in rows:
        part = ", ".join(having) or entry.decision
        score = f"{entry.score:.3f} ({_interval(entry)})"
        table.add_row(str(entry.version), part, score, entry.bundle[:12], entry.time[:16].replace("T", " "))
    _print(table)


@registry.command("history")
def history(as_json: Json = False) -> None:
    """Every decision, oldest first: who, when, on what evidence, why.

    Example: goku registry history
    """
    from goku_core.promote import ledger

    entries = ledger.read(Path.cwd())
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in entries]))
        return
    for entry in entries:
        typer.echo(
            f"{entry.number:4}  {entry.time[:16].replace('T', ' ')}  {entry.decision:<11}  version {entry.version} "
            f"({entry.bundle[:12]})  {entry.score:.3f} {_interval(entry)}  by {entry.by}\n      {entry.reason}"
        )
    if not entries:
        typer.echo("The ledger is empty.")


@registry.command("verify")
def verify(as_json: Json = False) -> None:
    """Check the chain of the ledger, every bundle's bytes, and that MLflow says the same. Exit code 1 at a fault.

    Example: goku registry verify
    """
    from goku_core.promote import bundle, ledger
    from goku_core.promote import registry as mlflow_mirror

    workspace = Path.cwd()
    entries = ledger.read(workspace)
    faults, checked = [], 0
    for digest in dict.fromkeys(entry.bundle for entry in entries):
        folder = bundle.location(workspace, digest)
        promoted = any(e.bundle == digest and e.decision != "refused" for e in entries)
        if not folder.is_dir():
            if promoted:
                faults.append(f"bundle {digest[:12]} is missing")
            continue  # evidence about other bytes: such a candidate is not kept
        try:
            bundle.verify(folder, digest)
        except GokuError as error:
            faults.append(str(error))
        checked += 1
    request = _request(workspace)
    faults += mlflow_mirror.disagreements(workspace, request.registry_name, request.alias)
    if as_json:
        typer.echo(json.dumps({"entries": len(entries), "bundles": checked, "faults": faults}))
    else:
        for fault in faults:
            typer.echo(f"FAULT {fault}")
        typer.echo(f"{len(entries)} ledger entries, {checked} bundles, {len(faults) or 'no'} faults")
        if any("alias" in fault or "registry" in fault for fault in faults):
            typer.echo("`goku registry sync` makes MLflow say what the ledger says.")
    if faults:
        raise typer.Exit(1)


@registry.command("sync")
def sync() -> None:
    """Make MLflow say what the ledger says (after a lost database, or a write that was interrupted).

    Example: goku registry sync
    """
    from goku_core.promote import registry as mlflow_mirror

    workspace = Path.cwd()
    request = _request(workspace)
    version = mlflow_mirror.mirror(workspace, request.registry_name, request.alias)
    typer.echo(f"{request.registry_name}@{request.alias}: registry version {version or 'none'}")


def _note_another_champion(workspace: Path, facts: dict[str, object]) -> None:
    """The stage's answer is about its candidate; the ledger may have moved on since."""
    from goku_core.promote import ledger

    standing = ledger.champion(ledger.read(workspace))
    if standing is not None and facts["decision"] == "promoted" and standing.bundle != facts["digest"]:
        typer.echo(f"note: version {standing.version} is champion now, see `goku registry history`", err=True)


def _request(workspace: Path) -> Request:
    return load_params(workspace / "params.yaml").promote


def _alias(workspace: Path) -> str:
    """The champion's alias; a folder that holds only a ledger can be read without parameters."""
    return _request(workspace).alias if (workspace / "params.yaml").is_file() else "champion"


def _tell(entry: Entry, as_json: bool) -> None:
    if as_json:
        typer.echo(entry.model_dump_json())
    else:
        typer.echo(f"version {entry.version} ({entry.bundle[:12]}) is champion now: {entry.reason}")


def _interval(entry: Entry) -> str:
    return f"{entry.interval[0]:.3f} to {entry.interval[1]:.3f}"


def _print(table: Table) -> None:
    from rich.console import Console

    Console(highlight=False).print(table)
