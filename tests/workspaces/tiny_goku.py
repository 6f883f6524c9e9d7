"""`goku` over the tiny line: what tests start as a process of its own (python tiny_goku.py run split --no-flow).

TINY_KILL names a point at which the process kills itself as `kill -9` would: TINY_KILL=before-store:data/joined.txt.
"""

from __future__ import annotations

import os
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_line

from goku_core import tracking
from goku_core.pipeline import commit, executor, line, process, store


def install() -> None:
    """Put the tiny line in the place of the real one, here and in processes started from here. MLflow only on wish."""
    process.COMMAND = [sys.executable, __file__]
    if not os.environ.get("TINY_TRACKED"):
        tracking.opener = lambda settings: executor._untracked
    line.cells = tiny_line.cells
    config = sys.modules.get("goku_core.config") or types.ModuleType("goku_core.config")
    config.load_params = tiny_line.load_params
    sys.modules["goku_core.config"] = config
    import goku_core

    goku_core.config = config


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, wanted: Callable[..., bool]) -> None:
    original = getattr(owner, name)

    def killed(*args: Any, **kwargs: Any) -> Any:
        if wanted(*args, **kwargs):
            die()
        return original(*args, **kwargs)

    setattr(owner, name, killed)


def arm(point: str, output: str) -> None:
    if point == "before-work":
        before(tiny_line, "run", lambda request, context: request.output == output)
    elif point == "mid-work":
        # While the second step is worked on: the first is in scratch.
        before(tiny_line, "step", lambda request, context, number: request.output == output and number == 2)
    elif point == "before-mlflow-end":
        for kind in (tracking.MlflowTracker, executor._Untracked):
            before(kind, "finish", lambda self, status: (Path.cwd() / "bodies.log").read_text().split()[-1] == output)
    elif point == "before-lineage":
        before(commit.Workspace, "write_lineage", lambda self, value: output in value["outputs"])
    elif point == "between-outputs":
        # The first of two outputs is swapped in, the second is not.
        before(commit, "_same_file_system", lambda source, target: target.as_posix().endswith("data/log"))
    elif point == "before-beside":
        before(executor.beside, "write", lambda root, value: output in value["outputs"])
    elif point == "before-store":
        before(store.Store, "put", lambda self, place, tree: place.as_posix().endswith(output))
    elif point == "before-record":
        before(commit.Workspace, "write_record", lambda self, value: output in value["outputs"])
    elif point == "before-check-out":
        before(commit.Workspace, "check_out", lambda self, fingerprint, outputs: output in outputs)
    elif point == "between-renames":
        original = commit._rename

        def rename(source: Path, target: Path) -> None:
            original(source, target)
            if source.as_posix().endswith(output):
                die()

        commit._rename = rename
    elif point == "before-clearing-scratch":
        before(executor, "remove", lambda path: "scratch" in path.parts and not point_is_early(path))
    else:
        raise ValueError(point)


def point_is_early(path: Path) -> bool:
    return not any(path.iterdir())


def main() -> None:
    install()
    if kill := os.environ.get("TINY_KILL"):
        arm(*kill.split(":"))
    from goku_core.cli import main as goku

    goku()


if __name__ == "__main__":
    main()
