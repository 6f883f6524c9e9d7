"""`goku bench`: the measured claims of `benchmarks`, a folder of the repository and not of the installed package."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import goku_core
from goku_core.pipeline.errors import GokuError

bench = typer.Typer(add_completion=False)
# What follows the name belongs to the benchmark, its --help too.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


@bench.command(context_settings=PASS_ON)
def measure(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which one; without a name all are listed")] = None,
) -> None:
    """Measure a claim on this machine: both sides in one run, a table with the ratio, a result file.

    Examples: goku bench; goku bench block --quick; goku bench pilot --help
    """
    folder = benchmarks_folder(Path(goku_core.__file__).resolve().parents[1])
    known = listed(folder)
    if name is None:
        width = max(map(len, known))
        for one, claim in known.items():
            typer.echo(f"{one:<{width}}  {claim}")
        typer.echo("\nRun one: goku bench NAME --quick; its options: goku bench NAME --help")
        return
    if name not in known:
        raise GokuError(f'there is no benchmark "{name}". There are: {", ".join(known)}')
    # A process of its own: a measurement shares its allocator and its threads with nothing that the command line imported.
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder.parent), environment.get("PYTHONPATH"))))
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *context.args], env=environment, check=False)
    raise typer.Exit(done.returncode)


def benchmarks_folder(root: Path) -> Path:
    """`benchmarks` of the repository that the package lies in. Raises `GokuError` where it lies in none."""
    folder = root / "benchmarks"
    if not (folder / "measuring").is_dir():
        raise GokuError(
            "goku bench needs the repository: the folder benchmarks is not part of the installed package. Clone the "
            "repository, install it with: pip install -e . and run goku bench again"
        )
    return folder


def listed(folder: Path) -> dict[str, str]:
    """Names and first lines of the benchmarks, read without importing them."""
    files = [path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    return {path.stem: _first_line(path) for path in files}


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
