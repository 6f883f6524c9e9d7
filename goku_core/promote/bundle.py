"""A bundle: everything that `Generator` needs to make pictures and clips, in one folder named by its content.

    config.json                    which task is served from which subfolder
    t2i/ t2v/ i2v/                 model.safetensors + config.json of one trained phase each
    vae/                           model.safetensors + config.json
    manifest.json                  SHA-256 and size of every file above, and the lineage

The digest of a bundle is the SHA-256 of its manifest. Nothing in it is executable and nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open

from goku_core.pipeline.errors import GokuError

STORE = ".goku/bundles"
FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
SETTINGS = "config.json"


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def location(workspace: Path, digest: str) -> Path:
    """Where the bundle of that digest lies (or would lie)."""
    return workspace / STORE / digest


def build(workspace: Path, partial: Path, models: Mapping[str, Path], vae: Path, lineage: Mapping[str, object]) -> str:
    """Copy models and VAE into a bundle, store it under its digest and return the digest.

    partial  folder to build in, on the workspace's disk; what an interrupted build left there is removed
    models   task -> folder with model.safetensors and config.json; tasks that share a folder share one copy
    lineage  JSON-able; stored in the manifest, so it is part of the digest: no times, no absolute paths
    """
    (workspace / STORE).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        tasks: dict[str, str] = {}
        copied: dict[Path, str] = {}
        for task, folder in models.items():
            if folder not in copied:
                _copy_model(folder, partial / task)
                copied[folder] = task
            tasks[task] = copied[folder]
        _copy_model(vae, partial / "vae")
        _write_json(partial / SETTINGS, {"format": FORMAT, "tasks": tasks, "vae": "vae"})
        files = {
            path.relative_to(partial).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        _write_json(partial / MANIFEST, {"format": FORMAT, "files": files, "lineage": dict(lineage)})
        digest = sha256(partial / MANIFEST)
        _settle(partial, location(workspace, digest))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return digest


def verify(folder: Path, digest: str | None = None) -> dict[str, object]:
    """Hash every file again and return the manifest.

    Raises GokuError where the manifest is missing or is not the one of `digest`, where a file is missing, changed or
    not listed, where a name leads out of the folder, and where anything is a link.
    """
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise GokuError(f"{folder}: no {MANIFEST}, so this is not a bundle. Name a folder that `goku promote` made.")
    if digest is not None and sha256(manifest_path) != digest:
        raise GokuError(f"{manifest_path}: not the manifest of bundle {digest[:12]}. {_MEND}")
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        listed = {str(name): str(facts["sha256"]) for name, facts in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GokuError(f"{manifest_path}: cannot be read as a manifest. {_MEND}") from error
    for name in listed:
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise GokuError(f"{manifest_path}: the name {name!r} leads out of the bundle. Do not use this bundle.")
    found: set[str] = set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise GokuError(f"{folder}: {name} is a link; a bundle holds plain files only. Do not use this bundle.")
        if path.is_file() and name != MANIFEST:
            found.add(name)
    if missing := sorted(set(listed) - found):
        raise GokuError(f"{folder}: {', '.join(missing)} missing. {_MEND}")
    if extra := sorted(found - set(listed)):
        raise GokuError(f"{folder}: {', '.join(extra)} not in the manifest. {_MEND}")
    for name, wanted in listed.items():
        if sha256(folder / name) != wanted:
            raise GokuError(f"{folder}: {name} was changed after the bundle had been made. {_MEND}")
    return manifest


_MEND = "Run `goku promote` to make it again from models/, or restore it from a copy."


def _copy_model(source: Path, target: Path) -> None:
    target.mkdir()
    for name in (WEIGHTS, SETTINGS):
        if not (source / name).is_file():
            raise GokuError(f"{source / name} is missing: `goku run` makes it.")
        shutil.copyfile(source / name, target / name)
    try:
        with safe_open(target / WEIGHTS, framework="np") as tensors:
            empty = not list(tensors.keys())
    except SafetensorError as error:
        raise GokuError(f"{source / WEIGHTS} is not a safetensors file ({error}). Train that phase again.") from error
    if empty:
        raise GokuError(f"{source / WEIGHTS} holds no tensors. Train that phase again.")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _settle(partial: Path, place: Path) -> None:
    """Move a finished bundle to its place; one that is there and whole stays, a damaged one is replaced."""
    if place.exists():
        try:
            verify(place, place.name)
            return
        except GokuError:
            shutil.rmtree(place)
    for path in partial.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.chmod(0o444)
    partial.replace(place)
