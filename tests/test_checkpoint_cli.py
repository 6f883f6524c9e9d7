"""`goku checkpoint`: what a run under way has, whether it is whole, and its weights as files that other programs load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from latent_workspace import make_workspace, train
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from goku_core.cli import app
from goku_core.generate import Generator
from goku_core.models.folders import load_goku
from goku_core.pipeline.errors import GokuError
from goku_core.train.checkpoint.export import export_diffusers


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose phase "first" was interrupted after step 8 of 12 (its scratch folder is what a kill leaves)."""
    folder = make_workspace(tmp_path_factory.mktemp("line"))
    place = tmp_path_factory.mktemp("run")
    train(folder, "first", place)
    shutil.copytree(place / "scratch", folder / ".goku/scratch/0123abcd")
    shutil.copytree(place / "out/models/first", folder / "models/first")
    return folder


def goku(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(app, ["checkpoint", *arguments])


def test_ls_says_what_there_is(workspace: Path) -> None:
    found = json.loads(goku(workspace, "ls", "--json").stdout)
    assert [(one["phase"], one["step"], one["tier"], one["wrong"], one["ranks"]) for one in found] == [
        ("first", 8, "local", None, 1),
        ("first", 4, "local", None, 1),
    ]
    folder = workspace / ".goku/scratch/0123abcd/checkpoints/step-00000008"
    assert found[0]["path"] == folder.as_posix() and found[0]["fingerprint"] == "0123abcd"
    assert found[0]["bytes"] == sum(f.stat().st_size for f in folder.iterdir() if f.name != "complete.json")
    assert "step 8" in goku(workspace, "ls").stdout


def test_verify_names_what_is_damaged(workspace: Path, tmp_path: Path) -> None:
    whole = goku(workspace, "verify")
    assert whole.exit_code == 0 and whole.stdout.count(": whole") == 2
    copy = tmp_path / "step-00000008"
    shutil.copytree(workspace / ".goku/scratch/0123abcd/checkpoints/step-00000008", copy)
    victim = copy / "muon-00000-00.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\xff")
    told = goku(workspace, "verify", str(copy), "--json")
    assert told.exit_code == 1
    (one,) = json.loads(told.stdout)
    assert not one["whole"] and "muon-00000-00.safetensors" in one["wrong"][0] and "SHA-256" in one["wrong"][0]
    refused = goku(workspace, "export", str(copy), "--to", str(tmp_path / "out")).exception
    assert isinstance(refused, GokuError) and "is not whole" in str(refused)


def test_an_export_is_a_model_that_generates(workspace: Path, tmp_path: Path) -> None:
    newest = workspace / ".goku/scratch/0123abcd/checkpoints/step-00000008"
    done = goku(workspace, "export", str(newest), "--to", str(tmp_path / "model"))
    assert done.exit_code == 0, done.output
    saved = {n: t for f in newest.glob("*.safetensors") for n, t in load_file(f).items()}
    for section, file in (("ema", "model.safetensors"), ("model", "training.safetensors")):
        found = load_file(tmp_path / "model" / file)
        assert {f"{section}.{n}" for n in found} == {n for n in saved if n.startswith(f"{section}.")}
        assert all((found[n] == saved[f"{section}.{n}"]).all() for n in found)
    finished = json.loads((workspace / "models/first/config.json").read_text())
    assert json.loads((tmp_path / "model/config.json").read_text()) == finished
    pictures = Generator.from_model(tmp_path / "model", workspace / "models/vae").images(["a red circle"], [1])
    assert pictures.shape == (1, 32, 32, 3)
    again = goku(workspace, "export", str(newest), "--to", str(tmp_path / "model"))
    assert "holds something already" in str(again.exception)


def test_the_layout_of_diffusers_is_read_by_following_its_index(workspace: Path, tmp_path: Path) -> None:
    newest = workspace / ".goku/scratch/0123abcd/checkpoints/step-00000008"
    done = goku(workspace, "export", str(newest), "--to", str(tmp_path / "one"), "--layout", "diffusers")
    assert done.exit_code == 0, done.output
    single = load_file(tmp_path / "one/transformer/diffusion_pytorch_model.safetensors")
    config = json.loads((tmp_path / "one/transformer/config.json").read_text())
    assert config["_class_name"] is None and "no class" in config["note"]
    export_diffusers(newest, tmp_path / "several", limit=20_000)
    transformer = tmp_path / "several/transformer"
    index = json.loads((transformer / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    parts = {name: load_file(transformer / file)[name] for name, file in index["weight_map"].items()}
    assert parts.keys() == single.keys() and all((parts[n] == single[n]).all() for n in parts)
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in parts.values())
    # The names are those of the network itself.
    (tmp_path / "model").mkdir()
    shutil.copy(tmp_path / "one/transformer/diffusion_pytorch_model.safetensors", tmp_path / "model/model.safetensors")
    shutil.copy(workspace / "models/first/config.json", tmp_path / "model/config.json")
    load_goku(tmp_path / "model")
