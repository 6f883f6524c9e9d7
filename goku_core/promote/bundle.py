"""A bundle: everything that `Generator` needs to make pictures and clips, in one folder named by its content.

    config.json                    which task is served from which subfolder
    t2i/ t2v/ i2v/                 model.safetensors + config.json of one trained phase each
    vae/                           model.safetensors + config.json
    manifest.json                  SHA-256 and size of every file above, and the lineage
    signature.json                 where somebody has signed it; signs the digest, so it is no part of it

The digest of a bundle is the SHA-256 of its manifest. Nothing in it is executable and nothing is pickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import link

STORE = ".goku/bundles"
FORMAT = 1
MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
WEIGHTS = "model.safetensors"
SETTINGS = "config.json"


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def location(workspace: Path, digest: str) -> Path:
    """Where the bundle of that digest lies (or would lie)."""
    return workspace / STORE / digest


@dataclass(frozen=True)
class Gathered:
    """Files in a folder that is to become a bundle, hashed once. parts: folder of a model -> its name in the bundle."""

    partial: Path
    files: dict[str, dict[str, object]]
    parts: dict[Path, str]

    def weights(self, model: Path) -> str:
        """SHA-256 of the weights of a model that went in."""
        return str(self.files[f"{self.parts[model]}/{WEIGHTS}"]["sha256"])


def build(workspace: Path, partial: Path, models: Mapping[str, Path], vae: Path, lineage: Mapping[str, object]) -> str:
    """`gather` and `seal`: the digest of the bundle, which lies at its place."""
    try:
        return seal(workspace, gather(partial, models, vae), lineage)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def gather(partial: Path, models: Mapping[str, Path], vae: Path) -> Gathered:
    """Take models and VAE into the folder `partial`, and hash each file once.

    partial  folder to build in, on the workspace's disk; what an interrupted build left there is removed
    models   task -> folder with model.safetensors and config.json; tasks that share a folder share one copy

    A file that is read-only, as the content store leaves its outputs, is linked; any other is copied.
    """
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    parts: dict[Path, str] = {}
    for task, folder in models.items():
        if folder not in parts:
            parts[folder] = task
            _take_model(folder, partial / task)
    _take_model(vae, partial / "vae")
    tasks = {task: parts[folder] for task, folder in models.items()}
    _write_json(partial / SETTINGS, {"format": FORMAT, "tasks": tasks, "vae": "vae"})
    files = {
        path.relative_to(partial).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in sorted(partial.rglob("*"))
        if path.is_file()
    }
    return Gathered(partial, files, {vae: "vae"} | parts)


def seal(
    workspace: Path, gathered: Gathered, lineage: Mapping[str, object], keep: bool = True, only: str | None = None
) -> str:
    """Write the manifest, store the bundle under its digest and return the digest.

    lineage  JSON-able; stored in the manifest, so it is part of the digest: no times, no absolute paths
    keep     false: the digest alone is wanted
    only     store it where this is its digest, and nothing otherwise
    """
    manifest = {"format": FORMAT, "files": gathered.files, "lineage": dict(lineage)}
    _write_json(gathered.partial / MANIFEST, manifest)
    digest = sha256(gathered.partial / MANIFEST)
    if keep and only in (None, digest):
        (workspace / STORE).mkdir(parents=True, exist_ok=True)
        _settle(gathered.partial, location(workspace, digest))
    return digest


def verify(folder: Path, digest: str | None = None) -> dict[str, object]:
    """Hash every file again and return the manifest.

    Raises GokuError where the manifest is missing or is not the one of `digest`, where a file is missing, changed or
    not listed, where a name leads out of the folder, and where anything is a link. The signature is not looked at here.
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
        if path.is_file() and name not in (MANIFEST, SIGNATURE):
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


def _take_model(source: Path, target: Path) -> None:
    target.mkdir()
    for name in (WEIGHTS, SETTINGS):
        if not (source / name).is_file():
            raise GokuError(f"{source / name} is missing: `goku run` makes it.")
        if (source / name).stat().st_mode & 0o222:
            shutil.copyfile(source / name, target / name)
        else:
            link((source / name).resolve(), target / name)
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
            if (place / SIGNATURE).is_file():  # it signs the digest, which is the same
                shutil.copyfile(place / SIGNATURE, partial / SIGNATURE)
            shutil.rmtree(place)
    for path in partial.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.chmod(0o444)
    try:
        partial.replace(place)
    except OSError as error:  # another process was first
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        verify(place, place.name)
