"""The tiny line as a git and DVC work tree with the settings of this repository, and what drives it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import tiny_goku
import tiny_line
import yaml
from tiny_line import new_workspace

GOKU = f"{sys.executable} {tiny_goku.__file__}"
DVC = Path(sys.executable).with_name("dvc")
ROOT = Path(__file__).resolve().parents[2]
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]


def install_in_process(monkeypatch: Any) -> None:
    """The tiny line here, and in the processes that a flow starts."""
    from goku_core import config, tracking
    from goku_core.pipeline import executor, line, process

    monkeypatch.setattr(line, "cells", tiny_line.cells)
    monkeypatch.setattr(config, "load_params", tiny_line.load_params)
    monkeypatch.setattr(tracking, "opener", lambda settings: executor._untracked)
    monkeypatch.setattr(process, "COMMAND", [sys.executable, tiny_goku.__file__])


def driven(place: Path, **params: object) -> Path:
    """A new work tree; its dvc.yaml is built as the repository's is: a gate, and record, numbers and curve at each cell."""
    workspace = new_workspace(place, **params)
    (workspace / ".dvc").mkdir()
    for name in (".dvc/config", ".dvcignore", ".gitignore"):
        (workspace / name).write_text((ROOT / name).read_text())
    cells = tiny_line.cells(tiny_line.Params())
    kinds = dict.fromkeys(cell.stage for cell in cells)
    gate = {
        "cmd": f"{GOKU} sources",
        "always_changed": True,
        "outs": [f"records/sources/{kind}.json" for kind in kinds],
    }
    stages: dict[str, Any] = {"sources": gate}
    for cell in cells:
        stage, _, phase = cell.name.partition("@")
        curve = cell.name == "join"
        drawn = {"x": "step", "y": "loss"} if curve else {"template": "bar_horizontal", "x": "value", "y": "name"}
        stages[cell.name.replace("@", "-")] = {
            "cmd": f"{GOKU} run {cell.name} --no-flow --driver dvc",
            "deps": [*cell.inputs, f"records/sources/{stage}.json"],
            "outs": [*cell.outputs, f"records/{cell.name}.json"],
            "params": [f"phases.{phase}" if phase else stage, "seed", "steps"],
            "metrics": [{f"metrics/{cell.name}.json": {"cache": False}}],
            "plots": [{f"plots/{cell.name}.csv": {"cache": False} | drawn}],
        }
    (workspace / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    subprocess.run(["git", "init", "-q", str(workspace)], check=True)
    return workspace


def repro(workspace: Path, *words: str) -> str:
    return dvc(workspace, "repro", *words)


def dvc(workspace: Path, *words: str) -> str:
    """Standard output, behind it standard error."""
    done = subprocess.run([DVC, *words], cwd=workspace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def commit(workspace: Path, message: str) -> None:
    """The code and dvc.lock, numbers and curves: what a team puts into git."""
    names = ["params.yaml", "source.txt", "dvc.yaml", "dvc.lock", "metrics", "plots", ".dvc/config", ".dvcignore"]
    subprocess.run([*GIT, "add", "-f", *names, ".gitignore"], cwd=workspace, check=True)
    subprocess.run([*GIT, "commit", "-q", "-m", message], cwd=workspace, check=True)


def clone(workspace: Path, place: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(workspace), str(place)], check=True)
    return place


def run_flow(workspace: Path, *cells: str, strict: bool = False) -> dict[str, str]:
    from flows.line import line

    return {o["cell"]: o["status"] for o in line(list(cells), strict, str(workspace))}


def goku(workspace: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, tiny_goku.__file__, *words],
        cwd=workspace, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def digests(workspace: Path) -> dict[str, str]:
    """What lies at every output, from the bytes, with nothing remembered."""
    from goku_core.pipeline.fingerprint import Digests

    place = workspace.parent / f"{workspace.name}.digests.sqlite"
    found = Digests(place)
    try:
        trees = {
            path: found.tree(workspace / path) for cell in tiny_line.cells(tiny_line.Params()) for path in cell.outputs
        }
        return {path: tree.digest for path, tree in trees.items() if tree}
    finally:
        found.close()
        for file in place.parent.glob(f"{place.name}*"):
            file.unlink()


def forget(workspace: Path) -> None:
    """All that the platform itself remembers."""
    shutil.rmtree(workspace / ".goku")
