"""`goku inspect FILE`: what made this file, with which model, seed and prompt, and whether that can be believed."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.media.credentials import Credentials
    from goku_core.media.provenance import Provenance


def inspect(
    file: Annotated[Path, typer.Argument(help="A picture or a clip")],
    trust: Annotated[
        Path | None,
        typer.Option(help="PEM file of certificates whose signers you trust [default: GOKU_C2PA_TRUST]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Say how a generated file was made, and check its content credentials.

    Exit code 1 where the file says nothing about how it was made, and where its credentials are broken.

    Example: goku inspect out.png
    """
    from goku_core.media.credentials import TRUST, read_credentials
    from goku_core.media.provenance import again_arguments, read_provenance

    provenance = read_provenance(file)
    if trust is None and os.environ.get(TRUST):
        trust = Path(os.environ[TRUST])
    credentials = read_credentials(file, trust)
    provenance = provenance or (credentials.provenance if credentials.state in ("valid", "trusted") else None)
    fault = _fault(file, provenance, credentials)
    again = None if provenance is None else again_arguments(provenance, _again_file(file))
    if as_json:
        facts = {
            "file": str(file),
            "provenance": None if provenance is None else provenance.as_json(),
            "credentials": credentials.as_json(),
            "again": again,
        }
        typer.echo(json.dumps(facts, ensure_ascii=False))
    elif provenance is not None and again is not None:
        _print(provenance, credentials, again)
    if fault:
        typer.echo(fault, err=True)
        raise typer.Exit(1)


def _again_file(file: Path) -> str:
    return f"{file.stem}-again{file.suffix}"


def _fault(file: Path, provenance: Provenance | None, credentials: Credentials) -> str | None:
    if credentials.state == "invalid":
        why = "; ".join(credentials.failures)
        return f"{file}: its content credentials do not hold, so what it says of itself proves nothing ({why})."
    if provenance is not None:
        return None
    if credentials.state in ("valid", "trusted"):
        maker = credentials.generator or "something unnamed"
        return f"{file}: not made by goku. Its content credentials are whole and name {maker} as what made it."
    return (
        f"{file}: says nothing about how it was made. It was not drawn by `goku generate`, or a program that saved it "
        "again has dropped that."
    )


def _print(provenance: Provenance, credentials: Credentials, again: list[str]) -> None:
    rows = {
        "prompt": provenance.prompt,
        "negative": provenance.negative,
        "model": f"{provenance.model}{_known_as(provenance.model)}",
        "seed": str(provenance.seed),
        "steps": str(provenance.steps),
        "guidance": f"{provenance.guidance:g}",
        "image guidance": None if provenance.image_guidance is None else f"{provenance.image_guidance:g}",
        "first picture": provenance.first_frame and f"{provenance.first_frame_name} (SHA-256 {provenance.first_frame})",
        "size": f"{provenance.height}x{provenance.width} px"
        + (f", enlarged {provenance.upscale}x" if provenance.upscale > 1 else ""),
        "frames": None if provenance.fps is None else f"{provenance.frames} at {provenance.fps:g}/s",
        "made": f"{provenance.made} by goku {provenance.goku}",
        "credentials": _credentials_said(credentials),
    }
    for name, value in rows.items():
        if value is not None:
            typer.echo(f"{name:<15}{_printable(value)}")
    # On a line of its own and never folded, so that it can be copied.
    typer.echo(f"draw it again:\n  {_printable(shlex.join(again))}")


def _printable(text: str) -> str:
    """A file can be from anybody: what would steer a terminal is shown instead of done."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _known_as(digest: str) -> str:
    from goku_core.references import known_as

    try:
        known = known_as(Path.cwd(), digest)
    except GokuError as error:  # a broken ledger is no reason not to say what the file says
        return f" (the ledger here cannot be read: {error})"
    return f" ({known} here)" if known else ""


def _credentials_said(credentials: Credentials) -> str:
    by = " of ".join(name for name in (credentials.signer, credentials.issuer) if name) or "an unnamed signer"
    when = f", time stamp {credentials.time}" if credentials.time else ""
    from goku_core.media.credentials import INSTALL

    return {
        "none": "none: what stands here can have been written by anybody",
        "valid": f"valid, signed by {by}{when}; not checked against a list of trusted signers that knows it",
        "trusted": f"valid, signed by {by}, who is trusted{when}",
        "invalid": "BROKEN",
        "unchecked": f"not looked for: c2pa-python is not installed ({INSTALL})",
    }[credentials.state]
