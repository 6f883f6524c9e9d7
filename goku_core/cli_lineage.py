"""`goku lineage`: where something came from and what was made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from goku_core.cli_run import Json


def lineage(
    name: Annotated[str, typer.Argument(help="Fingerprint, digest or run id (6 characters at least), path, or cell")],
    as_json: Json = False,
) -> None:
    """Where something came from and what was made of it, both ways, from the records alone.

    Examples: goku lineage promote · goku lineage models/joint_low · goku lineage 3f2a91c0
    """
    from goku_core.pipeline.lineage import chain

    found = chain(Path.cwd(), name)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
        return
    for heading, nodes in (
        ("made from", sorted(found.made_from, key=lambda node: node.value["finished"])),
        ("asked for", found.asked),
        ("made into", found.made_into),
    ):
        typer.echo(f"{heading}:")
        for node in nodes:
            value = node.value
            commit = (
                f"git {value['git']['commit'][:10]}{'+' if value['git']['dirty'] else ''}" if value["git"] else "no git"
            )
            typer.echo(
                f"  {node.cell:<24} {value['fingerprint'][:12]}  {value['finished'][:16].replace('T', ' ')}  {commit}"
                f"  MLflow {value['mlflow_run'] or '-'}"
            )
            for path, content in value["inputs"].items():
                typer.echo(f"      reads  {path}  {content['digest'][:12]}")
            for path, digest in node.outputs.items():
                typer.echo(f"      writes {path}  {digest[:12]}")
        if not nodes:
            typer.echo("  nothing")
