"""A registered model evaluated again: its own bytes, beside the line; a drop is told, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import date
from pathlib import Path

import pytest
import yaml
from promote_workspace import promoted, write_models
from scene_painter import ScenePainter

from goku_core import config
from goku_core.evaluate import evaluation
from goku_core.pipeline import line
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import execute
from goku_core.promote import ledger
from goku_core.reevaluation import NOTES, notes, reevaluate

ROOT = Path(__file__).resolve().parents[1]
ASIDE = (
    ".goku/reevaluations",
    NOTES,
    ".goku/tracking",
    "mlflow.db",
    "mlartifacts",
    ".goku/digests.sqlite",
    ".goku/locks",
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion whose evaluation was the real stage's, with a painter that knows the answers in the networks' place."""
    place = tmp_path_factory.mktemp("begun")
    params = yaml.safe_load((ROOT / "params/nano.yaml").read_text())
    params["evaluate"] |= {"prompts_per_task": 2, "images_per_prompt": 2, "bootstrap": 200, "photo_prefix": True}
    params["evaluate"] |= {"video": {"prompts": 2, "per_prompt": 1}, "image_to_video": {"prompts": 1, "per_prompt": 1}}
    (place / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    write_models(place, 1.0)
    (cell,) = line.select(line.cells(config.load_params(place / "params.yaml")), ["evaluate"])
    with pytest.MonkeyPatch.context() as patch:
        paint(patch, ScenePainter())
        execute(cell, place)
    assert promoted(place).decision == "promoted"
    return place


@pytest.fixture
def workspace(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    paint(monkeypatch, ScenePainter())
    return shutil.copytree(begun, tmp_path / "w")


def paint(monkeypatch: pytest.MonkeyPatch, painter: ScenePainter) -> None:
    monkeypatch.setattr(evaluation, "_sampler", lambda context, phase: painter)


def files(workspace: Path) -> dict[str, str]:
    found = {path.relative_to(workspace).as_posix(): path for path in workspace.rglob("*") if path.is_file()}
    return {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in found.items() if not n.startswith(ASIDE)}


def test_the_champion_holds_then_drops_and_the_line_is_as_it_was(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(workspace)
    (entry,) = ledger.read(workspace)
    good = reevaluate(workspace, "champion", fresh=True, today=date(2026, 11, 21))
    assert good["holds"] is True and good["score"] == 1.0 and good["is"] == ["champion"]
    assert good["seed"] == (date(2026, 11, 21) - date(1970, 1, 1)).days and good["protocol"] != entry.protocol
    proof = workspace / good["evaluation"] / "summary.json"
    assert hashlib.sha256(proof.read_bytes()).hexdigest() == good["evidence"]
    models = json.loads(proof.read_text())["models"]
    assert models == {
        p: hashlib.sha256((workspace / f"models/{p}/model.safetensors").read_bytes()).hexdigest() for p in models
    }

    write_models(workspace, 7.0)  # the line goes on training: the champion is still judged by its own bytes
    before |= {n: d for n, d in files(workspace).items() if n.startswith("models/")}
    paint(monkeypatch, ScenePainter(wrong=1))
    bad = reevaluate(workspace, "champion", fresh=True, today=date(2026, 11, 22))
    assert bad["holds"] is False and bad["bundle"] == good["bundle"] and bad["seed"] == good["seed"] + 1
    assert json.loads((workspace / bad["evaluation"] / "summary.json").read_text())["models"] == models
    assert [note["score"] for note in notes(workspace)] == [good["score"], bad["score"]]
    assert files(workspace) == before
    assert ledger.champion(ledger.read(workspace)) == entry, "a note decides nothing"
    assert not (workspace / ".goku/reevaluations" / good["bundle"][:12] / ".goku/store").exists()


@pytest.mark.slow
def test_the_same_noise_is_not_drawn_twice_and_other_rules_are_not_compared(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painter = ScenePainter()
    paint(monkeypatch, painter)
    first = reevaluate(workspace, "champion", fresh=False)
    assert first["protocol"] == ledger.read(workspace)[0].protocol and first["score"] == 1.0
    drawn = painter.drawn
    assert drawn > 0 and reevaluate(workspace, "champion", fresh=False)["evidence"] == first["evidence"]
    assert painter.drawn == drawn
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["evaluate"]["prompts_per_task"] = 3
    (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert reevaluate(workspace, "champion", fresh=False)["holds"] is None


def test_changed_bytes_and_unknown_names_are_refused(workspace: Path) -> None:
    with pytest.raises(GokuError, match="challenger"):
        reevaluate(workspace, "challenger", fresh=True)
    (weights,) = (workspace / ".goku/bundles").glob("*/t2v/model.safetensors")
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(GokuError, match="was changed after"):
        reevaluate(workspace, "champion", fresh=True)
    assert notes(workspace) == []
