"""Each ablation runs by one command: its arms differ in what they name, see the same held-out samples, and end in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tune_workspace import new_workspace, params_of

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import _untracked
from goku_core.report import build
from goku_core.tune import ablations, place, trial

TINY = {"depth": 1, "width": 32, "heads": 2, "ffn": 64}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_workspace(tmp_path_factory.mktemp("ablations"))


@pytest.mark.parametrize("name", list(ablations.ABLATIONS))
def test_arms_differ_in_what_they_name_and_in_nothing_else(workspace: Path, name: str) -> None:
    params, asked = params_of(workspace), ablations.ABLATIONS[name]
    shared = ablations.setting(params, 30, asked.of)
    first, second = (place.work(params, shared | changes, ablations.PHASE, 0).target for changes in asked.arms.values())
    one, two = first.request_json(), second.request_json()
    keys = {
        "joint": {"images", "clips"},
        "position": {"position"},
        "qk-norm": {"qk_norm"},
        "scale": {"name", "depth", "width", "heads", "ffn"},
    }[name]
    phase, model = ({key for key in side if side[key] != other[key]} for side, other in (
        (one["phases"][ablations.PHASE], two["phases"][ablations.PHASE]), (one["model"], two["model"])))  # fmt: skip
    assert phase | model == keys
    rest = [{k: v for k, v in side.items() if k not in ("phases", "model")} for side in (one, two)]
    assert rest[0] == rest[1]


def test_one_runs_and_lands_in_the_report(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the size of seconds: that it runs and what it writes; what comes out means nothing here."""
    tiny = {"train.model": {"name": "custom", **TINY, "position": "rope", "qk_norm": True}}
    arms = {"3D RoPE": tiny, "sinusoidal": {"train.model": tiny["train.model"] | {"position": "sinusoidal"}}}
    asked = ablations.ABLATIONS["position"]
    monkeypatch.setitem(ablations.ABLATIONS, "position", ablations.Ablation(asked.title, asked.question, arms))
    monkeypatch.setattr(ablations, "setting", _small(ablations.setting))
    page = ablations.run(
        "position", workspace, params_of(workspace), _untracked, steps=6, seeds=[0, 1], tokens=48, say=lambda _: None
    )
    assert page == workspace / "reports/ablations/index.html"
    facts = json.loads((workspace / "reports/ablations/position/facts.json").read_text())["facts"]
    assert set(facts["arms"]) == set(arms) and all(len(ones) == 2 for ones in facts["arms"].values())
    ends = [one["losses"][-1] for ones in facts["arms"].values() for one in ones]
    assert all(step == 6 for step, _ in ends) and len({loss for _, loss in ends}) == 4
    assert (
        asked.title in page.read_text() and (workspace / "reports/ablations/position/curves.png").stat().st_size > 5000
    )
    assert asked.title in build(workspace).read_text()
    assert not (workspace / "models/ablation").exists()


def _small(setting):
    def small(params, steps, of, tokens):
        found = setting(params, steps, of, tokens)
        return found | {"train.validation": found["train.validation"] | {"share": 0.3, "samples": 8, "weights": "raw"}}

    return small


def result(*ends: float, state: str = "done") -> list[trial.Result]:
    return [trial.Result(state, "", [(10, end)]) for end in ends]


def test_the_verdict_is_as_sure_as_its_seeds() -> None:
    assert (
        ablations.verdict({"a": result(0.9, 0.8), "b": result(1.0, 1.1)}) == "a ends 19.0 % below b, with every seed."
    )
    assert "the seeds overlap" in ablations.verdict({"a": result(0.9, 1.05), "b": result(1.0, 1.1)})
    broken = {"a": result(1.0), "b": [trial.Result("failed", "", [], why="the loss is nan")]}
    assert ablations.verdict(broken) == "Not every training of b came to its end."


def test_an_unknown_name(workspace: Path) -> None:
    with pytest.raises(GokuError, match="There are: joint, position, qk-norm, scale"):
        ablations.run("rope", workspace, params_of(workspace), _untracked)
