"""`goku evaluate during`: checkpoints of a training under way get scores on fixed prompts, in the training's own metrics."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
import yaml
from latent_workspace import PHASES, make_workspace, train
from scene_painter import ScenePainter
from typer.testing import CliRunner

from goku_core import cli_judge, tracking
from goku_core.evaluate import light
from goku_core.pipeline.files import append_json_line, read_json_lines

ROOT = Path(__file__).parents[2]
RUN = "0123abcd"
MIXED = {"images": 0.5, "clips": 0.5, "tokens": 64}


def parameters() -> dict:
    """The project's own, with the tiny phase in place of its curriculum."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["train"]["phases"] = {"first": {**PHASES["first"], **MIXED}}
    for section in ("evaluate", "promote"):
        values[section] |= {"image_model": "first", "video_model": None, "image_to_video_model": None}
    values["tune"]["phase"] = "first"
    return values


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose phase "first" is under way: steps 4 and 8 are saved."""
    folder = make_workspace(tmp_path_factory.mktemp("line"))
    place = tmp_path_factory.mktemp("run")
    train(folder, "first", place, **MIXED)
    shutil.copytree(place / "scratch", folder / f".goku/scratch/{RUN}")
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters()))
    return folder


def during(folder: Path, *arguments: str):
    app = typer.Typer()
    cli_judge.register(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(app, ["during", "--once", "--device", "cpu", "--json", *arguments])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_newest_checkpoint_is_scored_once_with_its_step(workspace: Path) -> None:
    spool = workspace / f".goku/tracking/{RUN}.jsonl"
    append_json_line(spool, {"kind": "start", "time": 0, "name": "train@first", "params": {}, "tags": {}})
    assert during(workspace, "--every", "5") == [], "no checkpoint has such a step"
    (told,) = during(workspace)
    assert (told["phase"], told["step"]) == ("first", 8)
    assert {"light/geneval", "light/geneval_counting", "light/motion_direction", "light/motion_flicker"} <= set(told)
    assert all(0 <= value <= 1 for name, value in told.items() if name.startswith("light/"))
    (line,) = [one for one in read_json_lines(spool) if one["kind"] == "metrics"]
    assert line["step"] == 8
    assert line["metrics"] == pytest.approx({k: v for k, v in told.items() if k.startswith("light/")}, abs=1e-6)
    assert during(workspace) == [], "what is scored is not scored again"

    append_json_line(spool, {"kind": "finish", "time": 1, "status": "FINISHED"})
    assert not tracking.log_beside(workspace, RUN, {"light/geneval": 0.5}, 12), "its mirror has gone"
    assert not tracking.log_beside(workspace, "unknown", {"light/geneval": 0.5}, 12)


def test_a_perfect_model_is_right_and_the_same_prompts_are_asked_every_time() -> None:
    painter = ScenePainter()
    found = light.pictures(painter, photo=True)
    assert found == light.pictures(painter, photo=True) and set(found.values()) == {1.0}
    moving = light.clips(painter, 17, continuing=False)
    assert moving["light/motion_direction"] == moving["light/motion_subject"] == 1.0
    assert light.clips(painter, 17, continuing=True)["light/i2v_first_frame_psnr"] == 99.0


@pytest.mark.slow
def test_the_scores_reach_the_mlflow_run_of_the_training(workspace: Path) -> None:
    from mlflow import MlflowClient

    run = "fedc9876"
    shutil.copytree(workspace / f".goku/scratch/{RUN}", workspace / f".goku/scratch/{run}")
    shutil.rmtree(workspace / f".goku/scratch/{RUN}")
    settings = tracking.Request()
    tracker = tracking.MlflowTracker(workspace, run, "train@first", {}, settings, {})
    (told,) = during(workspace)
    run_id = tracker.finish("FINISHED")
    client = MlflowClient(tracking.resolve_uri(settings.uri, workspace))
    (point,) = client.get_metric_history(run_id, "light/geneval")
    assert (point.step, point.value) == (8, pytest.approx(told["light/geneval"], abs=1e-6))
