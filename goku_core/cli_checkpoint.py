"""`goku checkpoint`: what a run under way could go on from, whether it is whole, and what finished runs have left behind."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from goku_core.pipeline.errors import GokuError

checkpoint = typer.Typer(help="Checkpoints of training runs under way.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]


class Layout(StrEnum):
    goku = "goku"
    diffusers = "diffusers"


@checkpoint.command("ls")
def ls(as_json: Json = False) -> None:
    """List the checkpoints of runs under way, newest first, here and in the bucket of train.checkpoint.remote.

    A checkpoint counts where its files are there in their sizes; goku checkpoint verify reads them.

    Example: goku checkpoint ls
    """
    from goku_core.train.checkpoint import listing

    found = [*listing.local(Path.cwd())]
    if (url := _remote()) is not None:
        try:
            found += listing.remote(url)
        except GokuError as error:
            typer.echo(f"the store is left out: {error}", err=True)
    found.sort(key=lambda one: (one.phase, one.fingerprint, -one.step, one.tier))
    if as_json:
        typer.echo(json.dumps([one.as_json() for one in found]))
        return
    if not found:
        typer.echo("no checkpoints: no training is under way here (a finished phase keeps none)", err=True)
    for one in found:
        state = one.wrong or f"saved {one.saved[:16].replace('T', ' ')} by {one.ranks} rank{'s' * (one.ranks != 1)}"
        typer.echo(f"{one.phase:<16}step {one.step:<9}{one.bytes / 1e6:9.1f} MB  {one.tier}  {state}  {one.path}")


@checkpoint.command("verify")
def verify(
    path: Annotated[
        Path | None, typer.Argument(help="One checkpoint's folder [default: all of this workspace]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every file against its digest. Exit code 1 where something is damaged; each file is named.

    Example: goku checkpoint verify
    """
    from goku_core.train.checkpoint.folder import damage, read_marker
    from goku_core.train.checkpoint.listing import local_checkpoints

    folders = [path] if path is not None else [one.path for one in local_checkpoints(Path.cwd())]
    if path is not None and not path.is_dir():
        raise GokuError(f"{path} is no folder. Name one of `goku checkpoint ls`.")
    told: list[dict[str, Any]] = []
    for folder in folders:
        wrong = damage(folder, read_marker(folder))
        told.append({"path": folder.as_posix(), "whole": not wrong, "wrong": wrong})
    if as_json:
        typer.echo(json.dumps(told))
    for one in [] if as_json else told:
        typer.echo(
            f"{one['path']}: whole" if one["whole"] else "\n".join(f"{one['path']}: {line}" for line in one["wrong"])
        )
    if not told:
        typer.echo("no checkpoints: no training is under way here (a finished phase keeps none)", err=True)
    if not all(one["whole"] for one in told):
        raise typer.Exit(1)


@checkpoint.command("prune")
def prune(
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; without it they are only listed")] = False,
    as_json: Json = False,
) -> None:
    """List, or delete, what finished phases have left in the bucket of train.checkpoint.remote.

    A phase counts as finished where this workspace has its record and its outputs. Checkpoints of runs that it does not know
    belong to others and stay.

    Example: goku checkpoint prune --delete
    """
    from goku_core.pipeline.commit import Workspace
    from goku_core.train.checkpoint import listing

    if (url := _remote()) is None:
        raise GokuError("train.checkpoint.remote is not set in params.yaml: there is no bucket to prune.")
    with Workspace(Path.cwd()) as place:
        done = {one.fingerprint for one in place.records() if place.holds_outputs(one) or place.can_restore(one)}
    found = [one for one in listing.remote(url) if one.fingerprint in done]
    if as_json:
        typer.echo(json.dumps([one.as_json() for one in found]))
    for one in [] if as_json else found:
        typer.echo(f"{one.phase:<16}step {one.step:<9}{one.bytes / 1e6:9.1f} MB  {one.path}")
    if not found:
        typer.echo("nothing to prune: no finished phase has left a checkpoint there", err=True)
    elif not delete:
        typer.echo("nothing was deleted: add --delete", err=True)
    else:
        for fingerprint in dict.fromkeys(one.fingerprint for one in found):
            listing.forget(url, fingerprint)
        typer.echo(f"deleted {len(found)} checkpoints, {sum(one.bytes for one in found) / 1e6:.1f} MB", err=True)


@checkpoint.command("export")
def export(
    path: Annotated[Path, typer.Argument(help="A checkpoint's folder, one of `goku checkpoint ls`")],
    to: Annotated[Path, typer.Option(help="Folder to write; it must not hold anything yet")],
    layout: Annotated[
        Layout, typer.Option(help="goku: as models/PHASE; diffusers: as its pipelines keep a network")
    ] = Layout.goku,
) -> None:
    """Write the weights of a checkpoint as safetensors that goku generate, or other programs, load. The training goes on.

    Example: goku checkpoint export .goku/scratch/1f2e/checkpoints/step-00000400 --to models/preview
    """
    from goku_core.train.checkpoint.export import LAYOUTS
    from goku_core.train.checkpoint.folder import damage, read_marker

    if wrong := damage(path, read_marker(path)):
        raise GokuError(f"{path} is not whole: {wrong[0]}.")
    LAYOUTS[layout.value](path, to)
    for file in sorted(one for one in to.rglob("*") if one.is_file()):
        typer.echo(f"{file.as_posix()}  {file.stat().st_size / 1e6:.1f} MB")


def _remote() -> str | None:
    """train.checkpoint.remote of this folder's params.yaml."""
    if not Path("params.yaml").is_file():
        return None
    from goku_core import config

    return config.load_params().train.checkpoint.remote
