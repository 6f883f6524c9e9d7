"""`goku access`: secrets of a team's servers, and who may reach them (docs/security.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from goku_core.cli_run import Json

access = typer.Typer(no_args_is_help=True, help="Secrets of a team's servers, and who may reach them.")
Folder = Annotated[Path, typer.Option("--folder", help="Where the secrets lie; never in version control")]
Name = Annotated[str, typer.Argument(help="Lower-case letters, digits, dot, dash, underscore")]
SECRETS = Path("infra/secrets")


@access.command()
def prepare(folder: Folder = SECRETS) -> None:
    """Make the passwords that the servers use among themselves; what is there already stays.

    Example: goku access prepare
    """
    from goku_core.services import accounts

    new = accounts.prepare(folder)
    typer.echo(f"{folder}: {len(new)} new files" if new else f"{folder}: all there, nothing changed")


@access.command()
def grant(
    name: Name,
    group: Annotated[str, typer.Option(help="reader: looks; writer: starts runs too, which run code on the workers")],
    folder: Folder = SECRETS,
) -> None:
    """Give a name a new password, printed once and stored nowhere.

    Example: goku access grant anna --group reader
    """
    from goku_core.pipeline.errors import GokuError
    from goku_core.services import accounts

    if group not in ("reader", "writer"):
        raise GokuError(f"--group {group}: reader or writer.")
    password = accounts.grant(folder, name, group)  # type: ignore[arg-type]
    typer.echo(password)
    typer.echo(
        "The proxy reads groups when it is told to: docker compose -f infra/compose.yaml kill -s HUP proxy", err=True
    )


@access.command()
def revoke(name: Name, folder: Folder = SECRETS) -> None:
    """Take a name's access away; its password counts no more from the next request on.

    Example: goku access revoke anna
    """
    from goku_core.services import accounts

    accounts.revoke(folder, name)
    typer.echo(f"{name} has no access any more")


@access.command("list")
def show(folder: Folder = SECRETS, as_json: Json = False) -> None:
    """Who has access, and as what.

    Example: goku access list
    """
    from goku_core.services import accounts

    found = accounts.accounts(folder)
    if as_json:
        typer.echo(json.dumps([vars(one) for one in found]))
        return
    for one in found:
        typer.echo(f"{one.name:<32} {one.group}")
