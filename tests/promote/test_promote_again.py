"""`goku promote` once more, when the ledger has moved: the kept answer does not stand in the way of a new one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from promote_workspace import candidate
from typer.testing import CliRunner

from goku_core import cli_node, tracking
from goku_core.cli import app
from goku_core.config import load_params
from goku_core.pipeline import executor, line
from goku_core.pipeline.commit import remove
from goku_core.pipeline.executor import execute
from goku_core.pipeline.versions import turns
from goku_core.promote import registry


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 was promoted by the stage. Without MLflow, which has its own tests."""
    monkeypatch.setattr(registry, "mirror", lambda *_: None)
    monkeypatch.setattr(tracking, "opener", lambda _: executor._untracked)
    monkeypatch.chdir(tmp_path)
    settings(tmp_path)
    offer(tmp_path, 1.0, 0.6)
    return tmp_path


def settings(workspace: Path, **gate: object) -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    (workspace / "params.yaml").write_text(json.dumps(values | {"promote": {"gate": gate}}), encoding="utf-8")


def offer(workspace: Path, value: float, score: float) -> dict[str, object]:
    """Other models and their evaluation in the workspace, and the stage's decision about them."""
    remove(workspace / "models")
    remove(workspace / "reports/evaluation")
    candidate(workspace, value, score)
    return again(workspace)


def cell(workspace: Path) -> line.Cell:
    (found,) = line.select(line.cells(load_params(workspace / "params.yaml")), ["promote"])
    return found


def again(workspace: Path) -> dict[str, object]:
    outcome = execute(cell(workspace), workspace)
    return outcome.record.report | {"status": outcome.status}


def by_command(code: int) -> dict[str, object]:
    done = CliRunner().invoke(app, ["promote", "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_promote_and_node_wait_their_turn(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(workspace / ".goku/locks/line.lock")
    in_turn = []

    def seen(*given: object, **more: object) -> executor.Outcome:
        in_turn.append(place in turns._OURS)
        return execute(*given, **more)

    monkeypatch.setattr(executor, "execute", seen)
    by_command(0)
    assert cli_node.lead([cell(workspace)], workspace) == 0
    assert in_turn == [True, True]
    assert place not in turns._OURS
