"""`goku params use NAME`, `goku params show`: presets of params.yaml."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from goku_core.params_text import annotated, with_missing
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

    presets, chosen = _presets(), preset_file(name)
    config.load_params(chosen)
    target = Path("params.yaml")
    text = chosen.read_text(encoding="utf-8")
    if target.exists() and not force:
        here = target.read_text(encoding="utf-8")
        if here not in [preset.read_text(encoding="utf-8") for preset in presets.values()]:
            raise GokuError("params.yaml has been edited and would be lost. Save it elsewhere, or give --force.")
    target.write_text(text, encoding="utf-8")
    typer.echo(f"params.yaml is now the preset {name}. See: goku plan", err=True)


@params.command("show")
def show(as_json: Json = False) -> None:
    """Print the checked parameters of this folder, every default filled in and every key explained.

    Example: goku params show
    """
    from goku_core import config

    found = config.load_params()
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json")))
        return
    typer.echo(annotated(found) + "\n" + _sizes(found.train.model.model_dump()), nl=False)


def _sizes(chosen: dict[str, Any]) -> str:
    """Comment lines: parameters of the network in use and of every named size."""
    from goku_core.models import CONFIGS, GokuConfig, parameter_count

    sizes = dict(CONFIGS)
    if chosen["name"] == "custom":
        sizes["custom"] = GokuConfig(**{key: chosen[key] for key in ("depth", "width", "heads", "ffn")})
    lines = ["# parameters of the network by train.model.name (text as wide as in the named config):"]
    for name, config in sizes.items():
        text = f"text {config.text_width} wide" if config.text_width else f"no text, {config.classes} classes"
        here = "  <- in use" if name == chosen["name"] else ""
        lines.append(f"#   {name:8} {parameter_count(config) / 1e9:7.3f}e9  {text}{here}")
    return "\n".join(lines) + "\n"


def preset_file(name: str) -> Path:
    """Where a preset is. Raises `GokuError` where there is none of that name."""
    presets = _presets()
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise GokuError(f"There is no preset {name!r}.{hint} Presets: {', '.join(presets)}.")
    return presets[name]


def _presets() -> dict[str, Path]:
    """Presets of the installation, overruled by those in the folder's own params/."""
    found = {file.stem: file for folder in (PRESETS, Path("params")) for file in sorted(folder.glob("*.yaml"))}
    return dict(sorted(found.items()))


@params.command("fill")
def fill(
    file: Annotated[Path, typer.Argument(help="The file to complete")] = Path("params.yaml"),
    as_json: Json = False,
) -> None:
    """Write every key that a parameter file leaves to its default, with what it means; comments and values stay as they are.

    For files of an earlier release, and for presets, which list every key. Example: goku params fill params/mine.yaml
    """
    from goku_core import config

    params = config.load_params(file)
    text, added = with_missing(file.read_text(encoding="utf-8"), params)
    if added:
        draft = file.with_name(f".{file.name}.draft")
        draft.write_text(text, encoding="utf-8")
        if config.load_params(draft) != params:
            draft.unlink()
            raise GokuError(
                f"{file} cannot be completed without changing it (anchors, perhaps). Write it without them."
            )
        draft.replace(file)
    if as_json:
        typer.echo(json.dumps({"added": added}))
        return
    typer.echo("\n".join(f"added {key}" for key in added) or f"{file} lists every key already", err=True)
