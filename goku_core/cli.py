"""`goku`: the command line. Every command lives in a module of its own kind and is imported when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

# command -> (module, name there); a typer.Typer there is a group of commands
COMMANDS = {
    "up": ("goku_core.cli_services", "up"),
    "down": ("goku_core.cli_services", "down"),
    "run": ("goku_core.cli_run", "run"),
    "node": ("goku_core.cli_node", "node"),
    "submit": ("goku_core.cli_submit", "submit"),
    "plan": ("goku_core.cli_plan", "plan"),
    "sources": ("goku_core.cli_run", "sources"),
    "status": ("goku_core.cli_run", "status"),
    "lineage": ("goku_core.cli_lineage", "lineage"),
    "report": ("goku_core.cli_run", "report"),
    "compare": ("goku_core.cli_compare", "compare"),
    "curate": ("goku_core.cli_curate", "curate"),
    "dataset": ("goku_core.cli_dataset", "dataset"),
    "params": ("goku_core.cli_params", "params"),
    "latents": ("goku_core.cli_latents", "latents"),
    "checkpoint": ("goku_core.cli_checkpoint", "checkpoint"),
    "tune": ("goku_core.cli_tune", "tune"),
    "ablate": ("goku_core.cli_tune", "ablate"),
    "bench": ("goku_core.cli_bench", "bench"),
    "doctor": ("goku_core.cli_doctor", "doctor"),
    "drill": ("goku_core.cli_drill", "drill"),
    "generate": ("goku_core.cli_generate", "generate"),
    "serve": ("goku_core.cli_serve", "serve"),
    "inspect": ("goku_core.cli_inspect", "inspect"),
    "evaluate": ("goku_core.cli_evaluate", "evaluate"),
    "promote": ("goku_core.cli_promote", "promote"),
    "rollback": ("goku_core.cli_promote", "rollback"),
    "registry": ("goku_core.cli_promote", "registry"),
    "access": ("goku_core.cli_access", "access"),
}


class _OnDemand(TyperGroup):
    """Imports a command when it is asked for, so that each starts quickly and none waits for the imports of another."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        found = getattr(importlib.import_module(module), name)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(cls=_OnDemand, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        from goku_core import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def goku(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version"),
) -> None:
    """Goku: from raw videos and pictures to an evaluated, promoted model of images and video.

    Run in a folder that holds params.yaml. Start with: goku plan
    """


def main() -> None:
    """Exit codes: 0 done, 1 the work failed, 2 something given to the command is wrong."""
    from goku_core.pipeline.errors import GokuError, StageFailed

    try:
        app()
    except StageFailed as error:
        sys.exit(_tell(error, 1))
    except GokuError as error:
        sys.exit(_tell(error, 2))


def _tell(error: Exception, code: int) -> int:
    print(error, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
