"""`goku params use NAME`, `goku params show`: presets of params.yaml."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated

import typer

from goku_core.pipeline.errors import GokuError

params = typer.Typer(help="Presets of params.yaml.", no_args_is_help=True)

PRESETS = Path(__file__).resolve().parents[1] / "params"
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]


@params.command("use")
def use(
    name: Annotated[str, typer.Argument(help="A preset: nano, smoke, ...")],
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a params.yaml that differs from every preset")
    ] = False,
) -> None:
    """Make a preset this folder's params.yaml. One that was edited by hand is kept unless --force is given.

    Example: goku params use nano
    """
    from goku_core import config

    presets = _presets()
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise GokuError(f"There is no preset {name!r}.{hint} Presets: {', '.join(presets)}.")
    config.load_params(presets[name])
    target = Path("params.yaml")
    text = presets[name].read_text(encoding="utf-8")
    if target.exists() and not force:
        here = target.read_text(encoding="utf-8")
        if here not in [preset.read_text(encoding="utf-8") for preset in presets.values()]:
            raise GokuError("params.yaml has been edited and would be lost. Save it elsewhere, or give --force.")
    target.write_text(text, encoding="utf-8")
    typer.echo(f"params.yaml is now the preset {name}. See: goku plan", err=True)


@params.command("show")
def show(as_json: Json = False) -> None:
    """Print the checked parameters of this folder, with every default filled in.

    Example: goku params show
    """
    import yaml

    from goku_core import config

    value = config.load_params().model_dump(mode="json")
    typer.echo(json.dumps(value) if as_json else yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)


def _presets() -> dict[str, Path]:
    """Presets of the installation, overruled by those in the folder's own params/."""
    found = {file.stem: file for folder in (PRESETS, Path("params")) for file in sorted(folder.glob("*.yaml"))}
    return dict(sorted(found.items()))
