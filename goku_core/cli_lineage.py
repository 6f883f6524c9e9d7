"""`goku lineage`: where something came from and what was made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_core.cli_run import Json
from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.lineage import Node
    from goku_core.promote.ledger import Entry

SHOWN = 50  # pieces of work that are printed of each part; --json has all


def lineage(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Beginning (6 characters at least) of a commit, a fingerprint, a digest or a run's id; a model's version "
            "or part (2, champion); a path; a cell; a picture or clip that was generated"
        ),
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--from", help="Whose records: another workspace, or s3://bucket/prefix [default: this workspace]"
        ),
    ] = None,
    publish: Annotated[
        str | None, typer.Option(metavar="S3_URL", help="Copy this workspace's records there, for others to ask")
    ] = None,
    as_json: Json = False,
) -> None:
    """Where something came from and what was made of it, both ways, from the records alone.

    Examples: goku lineage champion · goku lineage out.png · goku lineage models/joint_low · goku lineage 3f2a91c0 ·
    goku lineage --publish s3://bucket/team · goku lineage 3f2a91c0 --from s3://bucket/team
    """
    if (name is None) == (publish is None):
        raise GokuError("Give one of: a NAME to ask for, or --publish s3://bucket/prefix.")
    if publish is not None:
        from goku_core.lineage.publication import publish as copy

        new = copy(Path.cwd(), publish)
        typer.echo(json.dumps({"new": new}) if as_json else f"{new} new records at {publish}")
        return
    from goku_core.lineage import chain

    found = chain(Path.cwd(), name, place)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
        return
    _print("made from", sorted(found.made_from, key=lambda node: node.finished))
    _print("asked for", found.asked)
    _print("made into", found.made_into)
    if found.entries:
        typer.echo("ledger:")
    for entry in found.entries:
        typer.echo(f"  {_decision(entry)}")
    typer.echo("names:")
    for kind, names in found.names().items():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            typer.echo(f"  {kind.replace('_', ' ')}: {', '.join(_short(one) for one in names[:SHOWN])}{more}")


def _print(heading: str, nodes: Sequence[Node]) -> None:
    typer.echo(f"{heading}:")
    for node in nodes[:SHOWN]:
        commit = f"git {node.git[:10]}{'+' if node.dirty else ''}" if node.git else "no git"
        typer.echo(
            f"  {node.cell:<24} {node.fingerprint[:12]}  {node.finished[:16].replace('T', ' ')}  {commit}"
            f"  MLflow {node.mlflow_run or '-'}"
        )
        for path, digest in node.inputs.items():
            typer.echo(f"      reads  {path}  {digest[:12]}")
        for path, digest in node.outputs.items():
            typer.echo(f"      writes {path}  {digest[:12]}")
        if node.bundle:
            typer.echo(f"      model  {node.bundle[:12]}")
    if len(nodes) > SHOWN:
        typer.echo(f"  and {len(nodes) - SHOWN} more (--json has them)")
    if not nodes:
        typer.echo("  nothing")


def _decision(entry: Entry) -> str:
    return (
        f"{entry.time[:16].replace('T', ' ')}  version {entry.version} {entry.decision} by {entry.by}: {entry.reason}"
    )


def _short(name: str) -> str:
    before, colon, digest = name.rpartition(": ")
    return f"{before}{colon}{digest[:12]}"
