"""A search trains through the pipeline, finds what was done, goes on after a kill, and leaves the workspace's models alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState
from tune_workspace import RATE, new_workspace, params_of

from goku_core import config
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import _untracked
from goku_core.pipeline.files import read_json_lines
from goku_core.tune import place, summary, trial
from goku_core.tune.study import Search

WORKSPACES = Path(__file__).resolve().parents[1] / "workspaces"


def search(workspace: Path, name: str = "rates") -> Search:
    return Search(name, workspace, params_of(workspace), _untracked)


def started(workspace: Path) -> list[str]:
    """Fingerprints of trainings that were begun, in order."""
    return [
        line["fingerprint"]
        for line in read_json_lines(workspace / ".goku/attempts.jsonl")
        if line["event"] == "started"
    ]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = new_workspace(tmp_path_factory.mktemp("searched"))
    search(workspace).run()
    return workspace


def test_trials_are_trained_by_the_pipeline_and_the_best_has_the_least_loss(searched: Path) -> None:
    study = search(searched)
    ended = study.ended
    assert len(ended) == 4 and {one.state for one in ended} == {TrialState.COMPLETE}
    assert study.best().value == min(one.value for one in ended)
    assert len(set(started(searched))) == 4
    for one in ended:
        record = json.loads((searched / f".goku/records/train/{one.user_attrs['fingerprint']}.json").read_text())
        assert record["report"]["validation_loss"] == one.value
        assert record["request"]["phases"]["first"]["learning_rate"] == pytest.approx(one.params[RATE], rel=1e-3)
        assert sorted(one.intermediate_values) == [4, 8, 12] and one.intermediate_values[12] == one.value
    assert not (searched / "models/first").exists(), "a search must not put a trial's model in the place of the line's"
    assert not list((searched / ".goku/tune/rates/places").iterdir())


def test_a_study_goes_on_and_proposals_do_not_depend_on_when_it_was_stopped(searched: Path, tmp_path: Path) -> None:
    before = started(searched)
    search(searched).run(trials=4)
    assert started(searched) == before
    other = new_workspace(tmp_path / "other")
    search(other).run(trials=2)
    search(other).run(trials=4)
    ours, theirs = ([one.params[RATE] for one in search(place).ended] for place in (searched, other))
    assert ours == theirs and len(set(ours)) == 4
    assert [one.value for one in search(searched).ended] == [one.value for one in search(other).ended]


def test_work_that_was_done_is_found_by_its_fingerprint(searched: Path) -> None:
    before = started(searched)
    search(searched, "again").run()  # another study of the same seed proposes the same, and trains nothing
    assert started(searched) == before
    assert [one.value for one in search(searched, "again").ended] == [one.value for one in search(searched).ended]


def test_report_page_and_preset(searched: Path) -> None:
    study = search(searched)
    page = summary.report(study)
    text = page.read_text()
    assert (
        "Study rates" in text and text.count("data:image/png;base64,") >= 3 and "http" not in text.split("</style>")[1]
    )
    facts = json.loads((searched / "reports/tune/rates/facts.json").read_text())["facts"]
    assert facts["best"]["trial"] == study.best().number and len(facts["trials"]) == 4
    preset = summary.write_preset(study)
    assert preset == searched / "params/tuned-rates.yaml"
    written, before = config.load_params(preset), params_of(searched)
    assert written.train.phases["first"].learning_rate == pytest.approx(study.best().params[RATE], rel=1e-3)
    changed = written.train.phases["first"].model_copy(
        update={"learning_rate": before.train.phases["first"].learning_rate}
    )
    same = written.train.model_copy(update={"phases": {"first": changed}})
    assert written.model_copy(update={"train": same}) == before


def test_a_killed_search_tries_the_same_again_from_its_checkpoint(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "line", trials=2)
    value = yaml.safe_load((workspace / "params.yaml").read_text())
    value["train"]["phases"]["first"]["steps"] = 150
    value["train"]["checkpoint"] = {"every": 10}
    value["train"]["validation"]["every"] = 50
    (workspace / "params.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(WORKSPACES), str(WORKSPACES.parents[1])])}
    process = subprocess.Popen([sys.executable, "-m", "tune_workspace", str(workspace)], env=environment)
    try:
        until = time.monotonic() + 60
        while not list(workspace.glob(".goku/scratch/*/checkpoints/step-*")):
            assert process.poll() is None and time.monotonic() < until, "it ended or hung before it could be killed"
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    (killed,) = set(started(workspace))
    study = search(workspace, "killed")
    study.run()
    assert len(study.ended) == 2
    dead = [one for one in study.study.trials if one not in study.ended]
    assert [one.state for one in dead] == [TrialState.FAIL]
    again = study.study.trials[dead[0].number + 1]
    assert again.params == dead[0].params and again.user_attrs["fingerprint"] == killed
    assert started(workspace).count(killed) == 2
    record = json.loads((workspace / f".goku/records/train/{killed}.json").read_text())
    assert record["report"]["resumed_from"] > 0


def test_a_trial_behind_the_others_is_stopped(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "line")
    asked = place.work(params_of(workspace), {RATE: 1e-3}, "first")
    seen: list[int] = []

    def behind(step: int, loss: float) -> bool:
        seen.append(step)
        return step >= 8

    result = trial.run(asked, workspace, workspace / ".goku/tune/x/0", _untracked, behind, {})
    assert result.state == "pruned" and seen == [4, 8] == [step for step, _ in result.losses]
    assert not (workspace / ".goku/tune/x/0").exists()


def test_a_median_pruner_stops_hopeless_trials(tmp_path: Path) -> None:
    """The middle values learn; rates of 1e-12 do not, and are seen not to."""
    workspace = new_workspace(
        tmp_path / "line",
        {RATE: {"choices": [3e-3, 1e-12]}},
        trials=10,
        startup_trials=3,
        pruner="median",
        warmup=0.0,
        seed=2,
    )
    study = search(workspace)
    study.run()
    pruned = [one for one in study.ended if one.state == TrialState.PRUNED]
    assert {one.params[RATE] for one in pruned} <= {1e-12} and study.best().params[RATE] == 3e-3


def test_mistakes_are_told_before_anything_trains(tmp_path: Path) -> None:
    def refused(space: dict[str, object], says: str, **tune: object) -> None:
        workspace = new_workspace(tmp_path / says[:8].replace(" ", ""), space, **tune)
        with pytest.raises(GokuError, match=says):
            search(workspace)
        assert not started(workspace)

    refused(
        {"train.phases.first.learning_rat": {"low": 1, "high": 2}},
        "is no key of params.yaml. Did you mean train.phases.first",
    )
    refused({"train.ema_decay": {"low": 0.5, "high": 1.5}}, "train.ema_decay: it should be less than 1")
    refused({"evaluate.batch": {"low": 1, "high": 4}}, "no part of what train@first depends on")
    refused({RATE: {"low": 1e-4, "high": 1e-2}}, "NOT_SET, which is not set", storage_variable="NOT_SET")
    workspace = new_workspace(tmp_path / "off")
    value = yaml.safe_load((workspace / "params.yaml").read_text())
    value["train"]["validation"]["share"] = 0.0
    (workspace / "params.yaml").write_text(yaml.safe_dump(value))
    with pytest.raises(GokuError, match="set train\\.validation\\.share"):
        search(workspace)


def test_a_study_of_other_parameters_is_not_continued(searched: Path) -> None:
    params = params_of(searched)
    other = params.model_copy(update={"train": params.train.model_copy(update={"ema_decay": 0.5})})
    with pytest.raises(GokuError, match="begun with other parameters"):
        Search("rates", searched, other, _untracked)


def test_trials_that_all_fail_end_the_search(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "line", {RATE: {"choices": [1e12, 2e12, 3e12]}}, trials=9)
    with pytest.raises(GokuError, match=r"3 trials failed one after another(.|\n)*is (nan|inf)"):
        search(workspace).run()
    assert len(search(workspace).ended) == 3


def test_a_change_upstream_is_trained_on_what_it_makes(tmp_path: Path) -> None:
    """What the changes touch is made in the trial's own place; what they do not is linked."""
    workspace = new_workspace(tmp_path / "line")
    params = params_of(workspace)
    other = place.work(params, {"precompute.windows_per_clip": 2}, "first")
    assert [cell.name for cell in other.before] == ["precompute"]
    assert set(other.given) == {"data/clips.parquet", "data/raw", "data/transcoded", "models/vae"}
    plain = place.work(params, {RATE: 0.5}, "first")
    assert place.work(params, {"evaluate.batch": 3}, "first").other is False and plain.other is True
    assert plain.before == [] and set(plain.given) == {"data/latents", "models/vae"}
