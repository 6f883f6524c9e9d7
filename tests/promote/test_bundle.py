from __future__ import annotations

import json
from pathlib import Path

import pytest
from promote_workspace import write_models

from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle


def build(workspace: Path, note: str = "") -> Path:
    models = workspace / "models"
    digest = bundle.build(
        workspace,
        workspace / ".goku/scratch/bundle",
        {"t2i": models / "finetune_t2i", "t2v": models / "finetune_t2v", "i2v": models / "finetune_t2v"},
        models / "vae",
        {"note": note},
    )
    return bundle.location(workspace, digest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_models(tmp_path, 1.0)
    made = build(tmp_path)
    for path in made.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    return made


def test_holds_what_generation_needs_and_nothing_else(folder: Path) -> None:
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    weights = {f"{part}/{name}" for part in ("t2i", "t2v", "vae") for name in ("model.safetensors", "config.json")}
    assert names == {"config.json", "manifest.json"} | weights
    settings = json.loads((folder / "config.json").read_text())
    assert settings["tasks"] == {"t2i": "t2i", "t2v": "t2v", "i2v": "t2v"}, "tasks that share a model share the file"
    bundle.verify(folder, folder.name)


def test_same_content_same_digest(folder: Path, tmp_path: Path) -> None:
    assert build(tmp_path) == folder
    assert build(tmp_path, "other lineage") != folder
    assert not (tmp_path / ".goku/scratch/bundle").exists()


def test_damaged_bundle_is_made_again(folder: Path, tmp_path: Path) -> None:
    (folder / "t2i/model.safetensors").write_bytes(b"x")
    bundle.verify(build(tmp_path), folder.name)


def test_interrupted_build_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    left = tmp_path / ".goku/scratch/bundle"
    left.mkdir(parents=True)
    (left / "half.safetensors").write_bytes(b"x")
    assert build(tmp_path) == folder


def _change(folder: Path) -> None:
    path = folder / "vae/config.json"
    path.write_text(path.read_text() + " ")


def _add(folder: Path) -> None:
    (folder / "t2i/setup.py").write_text("print()")


def _remove(folder: Path) -> None:
    (folder / "t2v/config.json").unlink()


def _link(folder: Path) -> None:
    (folder / "t2v/config.json").unlink()
    (folder / "t2v/config.json").symlink_to("../t2i/config.json")


def _link_folder(folder: Path) -> None:
    (folder / "everything").symlink_to("/")


def _escape(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../../outside"] = {"sha256": "0", "bytes": 1}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_change, "was changed"),
        (_add, "not in the manifest"),
        (_remove, "missing"),
        (_link, "is a link"),
        (_link_folder, "is a link"),
        (_escape, "leads out of"),
    ],
)
def test_harm_is_refused(folder: Path, harm: object, words: str) -> None:
    harm(folder)  # type: ignore[operator]
    with pytest.raises(GokuError, match=words):
        bundle.verify(folder)


def test_manifest_of_another_bundle_is_refused(folder: Path) -> None:
    with pytest.raises(GokuError, match="not the manifest of bundle"):
        bundle.verify(folder, "0" * 64)


def test_weights_that_are_not_safetensors_are_refused(tmp_path: Path) -> None:
    write_models(tmp_path, 1.0)
    (tmp_path / "models/vae/model.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(GokuError, match="not a safetensors file"):
        build(tmp_path)
    assert not list((tmp_path / ".goku").glob("bundles/*"))
