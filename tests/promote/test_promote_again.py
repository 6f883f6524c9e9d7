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
from goku_core.pipeline.executor import execute, find_done
from goku_core.pipeline.plan import plan
from goku_core.pipeline.versions import sources, turns
from goku_core.promote import ledger, promotion, registry
from goku_core.promote.request import Request


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


def test_a_candidate_that_waits_is_judged_again_beside_another_champion(workspace: Path) -> None:
    settings(workspace, approver=["Ada"])
    assert offer(workspace, 2.0, 0.7)["decision"] == "awaiting"
    request = load_params(workspace / "params.yaml").promote
    promotion.promote_by_hand(workspace, request, 2, "for now", "Ada")
    promotion.rollback(workspace, request, None, "no")
    offer(workspace, 3.0, 0.75)
    promotion.approve(workspace, request, 3, "Ada", "better")
    assert offer(workspace, 4.0, 0.76)["decision"] == "awaiting"
    promotion.rollback(workspace, request, None, "colours")  # now version 1 is champion, not version 3
    with pytest.raises(promotion.GokuError, match="Run `goku promote` again"):
        promotion.approve(workspace, request, 4, "Ada", "good")
    told = by_command(0)
    assert (told["decision"], told["status"]) == ("awaiting", "ran")
    assert promotion.approve(workspace, request, 4, "Ada", "good").decision == "promoted"


def test_a_refusal_is_judged_again_after_a_rollback(workspace: Path) -> None:
    offer(workspace, 2.0, 0.8)
    assert offer(workspace, 3.0, 0.65)["decision"] == "refused"
    assert again(workspace)["status"] == "already-done"
    promotion.rollback(workspace, Request(), None, "colours")
    (entry,) = [one for one in plan([cell(workspace)], workspace) if one.cell == "promote"]
    assert entry.state == "run" and "the ledger has moved since, entry 4 is its last" in entry.why
    assert find_done(cell(workspace), workspace) is None, "what a flow asks before it starts a process"
    told = by_command(0)
    assert (told["decision"], told["version"], told["status"]) == ("promoted", 3, "ran")
    assert again(workspace)["status"] == "already-done", "asked once"


def test_a_decision_by_hand_is_told(workspace: Path) -> None:
    offer(workspace, 2.0, 0.2)
    assert by_command(1)["decision"] == "refused"
    promotion.promote_by_hand(workspace, Request(), 2, "for a test")
    told = by_command(0)
    assert (told["decision"], told["reason"]) == ("promoted", "by hand: for a test")
    assert len(ledger.read(workspace)) == 3, "told, not decided again"


def test_a_promotion_stands_whoever_is_champion_since(workspace: Path) -> None:
    offer(workspace, 2.0, 0.8)
    promotion.rollback(workspace, Request(), None, "colours")
    assert by_command(0)["status"] == "already-done"
    assert len(ledger.read(workspace)) == 3


def test_dvc_sees_it_once(workspace: Path) -> None:
    """`goku sources` writes what the stage depends on: it changes when the answer was overtaken, and then stays."""

    def seen() -> bytes:
        sources.write([cell(workspace)], workspace)
        return (workspace / sources.source_file("promote")).read_bytes()

    offer(workspace, 2.0, 0.8)
    offer(workspace, 3.0, 0.65)
    before = seen()
    assert seen() == before
    promotion.rollback(workspace, Request(), None, "colours")
    moved = seen()
    assert moved != before
    assert again(workspace)["decision"] == "promoted"
    assert seen() == moved, "answered: the stage is not run for it again"
