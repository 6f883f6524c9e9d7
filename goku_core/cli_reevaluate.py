"""`goku evaluate registered`: a model of the ledger once more, beside the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("registered")(registered)


def registered(
    model: Annotated[
        str, typer.Argument(help="champion, challenger, previous, or a version of the ledger")
    ] = "champion",
    same: Annotated[
        bool, typer.Option("--same", help="The line's prompts and noise, not new ones; done work is not repeated")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output")] = False,
) -> None:
    """Evaluate a registered model's own bytes again, and note the score beside the ledger. Exit code 1 where it has dropped.

    The workspace's models, reports and records stay as they are.

    Example: goku evaluate registered champion
    """
    from goku_core.reevaluation import reevaluate

    note = reevaluate(Path.cwd(), model, fresh=not same)
    if as_json:
        typer.echo(json.dumps(note))
    else:
        typer.echo(
            f"version {note['version']} ({note['bundle'][:12]}), {', '.join(note['is']) or 'no part'}: {note['reason']}"
        )
        if beside := note.get("champion"):
            typer.echo(
                f"{beside['difference']:+.4f} beside champion version {beside['version']} on the same prompts and noise"
            )
        typer.echo(note["note"])
    if note["holds"] is False:
        raise typer.Exit(1)
