"""A run that was put aside and answered begins anew: its answer reaches the ledger before anything else happens."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from promote_workspace import candidate, promoted

from flows import answers, line, promote
from goku_core.pipeline.errors import GokuError
from goku_core.promote import ledger, promotion, registry
from goku_core.promote.request import Request

GATE = {"approver": ["Ada"]}
ANSWER = {"approve": True, "by": "Ada", "because": "clips look right"}


class Resumed:
    """Of the run: which keys it was put aside with and what was answered; and what was said to the ledger."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.answers: dict[str, Any] = {}
        self.said: list[list[str]] = []

    def run(self, command: list[str], **_: Any) -> Any:
        self.said.append(command[len(answers.COMMAND) :])
        return SimpleNamespace(returncode=0)


@pytest.fixture
def resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resumed:
    """Version 2 waits by entry 2, then version 3 by entry 3, which is what reports/ and the workspace tell of."""
    monkeypatch.setattr(registry, "mirror", lambda *_: None)
    candidate(tmp_path, 1.0, 0.6)
    promoted(tmp_path)
    for value in (2.0, 3.0):
        candidate(tmp_path, value, 0.7)
        promoted(tmp_path, gate=GATE)
    one = Resumed()
    run = SimpleNamespace(empirical_policy=SimpleNamespace(pause_keys=one.keys), deployment_id=None)
    monkeypatch.setattr(answers.FlowRunContext, "get", lambda: SimpleNamespace(flow_run=run))
    monkeypatch.setattr(answers, "read_flow_run_input", one.answers.get)
    monkeypatch.setattr(answers, "subprocess", SimpleNamespace(run=one.run))
    for flow in (line, promote):
        monkeypatch.setattr(flow, "run_cells", lambda *_: pytest.fail("a cell was run before the answer was given"))
    return one


@pytest.mark.parametrize("flow", [line.line, promote.promote])
def test_the_answer_goes_to_what_was_asked_about(flow: Any, resumed: Resumed, tmp_path: Path) -> None:
    resumed.keys |= {"entry-2", "1"}
    resumed.answers["suspended-entry-2-response"] = ANSWER
    assert flow.fn(workspace=str(tmp_path)) == []
    assert resumed.said == [["--approve", "2", "--by", "Ada", "--because", "clips look right"]]


def test_an_answer_is_given_once_and_to_no_later_judgement(resumed: Resumed, tmp_path: Path) -> None:
    assert not answers.answered(tmp_path), "never put aside"
    resumed.keys.add("entry-2")
    assert not answers.answered(tmp_path), "put aside, and never answered"
    resumed.answers["suspended-entry-2-response"] = ANSWER | {"approve": False}
    request = Request(gate=GATE | {"minimum_score": 0.1})
    candidate(tmp_path, 2.0, 0.7)
    promoted(tmp_path, gate=request.gate.model_dump())
    assert ledger.read(tmp_path)[-1].version == 2
    with pytest.raises(GokuError, match="version 2: decided or judged again"):
        answers.answered(tmp_path)
    assert resumed.said == []


def test_a_run_begun_again_after_its_answer_was_taken_works_on(resumed: Resumed, tmp_path: Path) -> None:
    promotion.decline(tmp_path, Request(gate=GATE), 2, "Ada", "faces melt")
    resumed.keys.add("entry-2")
    resumed.answers["suspended-entry-2-response"] = ANSWER
    assert not answers.answered(tmp_path) and resumed.said == []
