"""`goku params use NAME`, `goku params show`: presets of params.yaml."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel

from goku_core.pipeline.errors import GokuError

params = typer.Typer(help="Presets of params.yaml.", no_args_is_help=True)

WIDTH = 118
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


def annotated(value: BaseModel) -> str:
    """YAML of a request with each field's description as its comment. What presets are written with."""
    return "\n".join(_lines(value, 0, explain=True)) + "\n"


def _lines(value: BaseModel | dict[str, Any], depth: int, explain: bool) -> Iterator[str]:
    indent = "  " * depth
    items = (
        value.items() if isinstance(value, dict) else [(key, getattr(value, key)) for key in type(value).model_fields]
    )
    for position, (key, inner) in enumerate(items):
        if not depth and position:
            yield ""
        field = None if isinstance(value, dict) else type(value).model_fields[key]
        comment = f"# {field.description}" if explain and field and field.description else ""
        if isinstance(inner, BaseModel) or (isinstance(inner, dict) and inner):
            if comment:
                yield from _wrapped(comment, indent)
            yield f"{indent}{key}:"
            # Of several entries of one kind (phases, resolutions) the first one explains the keys.
            yield from _lines(inner, depth + 1, explain and (not isinstance(value, dict) or position == 0))
            continue
        line = f"{indent}{key}: {_scalar(inner)}"
        if comment and len(line) + len(comment) + 2 <= WIDTH:
            yield f"{line}  {comment}"
            continue
        yield from _wrapped(comment, indent)
        yield line


def _wrapped(comment: str, indent: str) -> list[str]:
    return textwrap.wrap(comment, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}# ")


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_scalar(inner) for inner in value)}]"
    return json.dumps(value, ensure_ascii=False) if not _is_plain(value) else value


def _is_plain(value: Any) -> bool:
    """A text that YAML reads as the same text without quotes."""
    return isinstance(value, str) and yaml.safe_load(f"- {value}") == [value]


def _presets() -> dict[str, Path]:
    """Presets of the installation, overruled by those in the folder's own params/."""
    found = {file.stem: file for folder in (PRESETS, Path("params")) for file in sorted(folder.glob("*.yaml"))}
    return dict(sorted(found.items()))
