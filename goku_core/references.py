"""Which model a name means: what `--model` and `goku inspect` take and give.

A promoted model is named by the ledger (champion, previous, challenger, a version, a bundle's digest), a trained phase by
its folder, by the fingerprint or the MLflow run of its training, or by its digest. A phase that another training has
since replaced in models/ is taken from the content store.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.generate import Generator
    from goku_core.pipeline.commit import Record, Workspace
    from goku_core.pipeline.fingerprint import Tree

WEIGHTS, SETTINGS = "model.safetensors", "config.json"
LAID_OUT = "models"  # folder in .goku/ for phases that are no longer in the workspace
DIGITS = re.compile(r"[0-9a-f]{8,64}", re.IGNORECASE)  # of a fingerprint, digest or run; fewer could be a version


@dataclass(frozen=True)
class Model:
    """A model on disk. digest names its bytes; vae is None for a bundle, which holds its own."""

    folder: Path
    digest: str
    vae: Path | None = None

    def open(self, task: str, device: str = "auto") -> Generator:
        """The network of a bundle that does `task` (t2i, t2v, i2v), or a phase's whatever it does, on a device."""
        from goku_core.generate import Generator

        if self.vae is None:
            return Generator.from_bundle(self.folder, task, device)
        return Generator.from_model(self.folder, vae=self.vae, device=device)


def locate(workspace: Path, name: str) -> Model:
    """The model of that name. Raises GokuError where there is none, with the names there are."""
    from goku_core.promote import bundle, promotion, signature

    folder = Path(name)
    if folder.is_dir() and (folder / bundle.MANIFEST).is_file():
        bundle.verify(folder)
        digest = bundle.sha256(folder / bundle.MANIFEST)
        signature.check(folder, digest, signature.trusted(workspace))
        return Model(folder, digest)
    if folder.is_dir() and (folder / WEIGHTS).is_file() and (folder / SETTINGS).is_file():
        return Model(folder, _phase_digest(_digests(folder)), folder.parent / "vae")
    if folder.is_dir() or "/" in name:
        raise GokuError(
            f"{name}: neither a bundle (manifest.json) nor a trained phase (model.safetensors and config.json)."
            + _trained_phases(workspace)
        )
    if found := _trained(workspace, name):
        return found
    try:
        return Model(*promotion.resolve(workspace, name))
    except GokuError as error:
        near = difflib.get_close_matches(name, ("champion", "previous", "challenger"), n=1)
        meant = f" Did you mean {near[0]}?" if near and near[0] != name else ""
        raise GokuError(f"{error}{meant}{_trained_phases(workspace)}") from error


def known_as(workspace: Path, digest: str) -> str | None:
    """What a workspace calls the model of that digest: "version 3, champion" or "train@joint_low 1a2b3c4d5e6f"; else None."""
    from goku_core.promote import ledger

    entries = ledger.read(workspace)
    versions = [entry.version for entry in entries if entry.bundle == digest]
    if versions:
        parts = [part for part, bundle in ledger.roles(entries).items() if bundle == digest]
        return ", ".join([f"version {versions[-1]}", *parts])
    if not _has_trainings(workspace):
        return None
    from goku_core.pipeline.commit import Workspace

    with Workspace(workspace) as place:
        cells = [
            f"{r.cell} {r.fingerprint[:12]}" for r, _, tree in _phases(place) if _phase_digest(tree.files) == digest
        ]
    return cells[-1] if cells else None


def _phase_digest(files: Mapping[str, str]) -> str:
    """Of the two files that decide what a phase draws; its config.json names the VAE and the text encoder by digest."""
    from goku_core.pipeline.fingerprint import Tree

    return Tree({name: files[name] for name in (WEIGHTS, SETTINGS)}, folder=True).digest


def _digests(folder: Path) -> dict[str, str]:
    from goku_core.promote.bundle import sha256

    return {name: sha256(folder / name) for name in (WEIGHTS, SETTINGS)}


def _trained(workspace: Path, name: str) -> Model | None:
    """The phase of a training that was committed here; None where the name is none of a training."""
    if not DIGITS.fullmatch(name) or not _has_trainings(workspace):
        return None
    from goku_core import tracking
    from goku_core.pipeline.commit import Workspace

    with Workspace(workspace) as place:
        found: dict[str, tuple[Record, str, Tree]] = {}
        for record, path, tree in _phases(place):
            digest = _phase_digest(tree.files)
            names = (record.fingerprint, digest, tracking.run_id(workspace, record.fingerprint) or "")
            if any(one.startswith(name.lower()) for one in names):
                found[digest] = (record, path, tree)  # trained twice to the same bytes: the same model
        if not found:
            return None
        if len(found) > 1:
            cells = ", ".join(f"{record.cell} {record.fingerprint[:12]}" for record, _, _ in found.values())
            raise GokuError(f"--model {name} is the beginning of several: {cells}. Give more of it.")
        ((digest, (record, path, tree)),) = found.items()
        folder = _present(place, path, tree)
        if folder is None:
            raise GokuError(
                f"The model of {record.cell} {record.fingerprint[:12]} is neither in {path} nor whole in the store. "
                f"`goku run {record.cell}` with the parameters of that time makes it again."
            )
        return Model(folder, digest, _vae(place, folder))


def _has_trainings(workspace: Path) -> bool:
    """Asked before `Workspace`, which makes its folder where there is none."""
    return (workspace / ".goku/records/train").is_dir()


def _phases(place: Workspace) -> Iterator[tuple[Record, str, Tree]]:
    """Every committed training with the path and the files of its model, oldest first."""
    for record in place.records():
        for path, tree in record.outputs.items():
            if record.stage == "train" and {WEIGHTS, SETTINGS} <= tree.files.keys():
                yield record, path, tree


def _present(place: Workspace, path: str, tree: Tree) -> Path | None:
    """A folder with the bytes of `tree`: the workspace's own, else one made of links into the store."""
    from goku_core.pipeline.commit import remove

    here = place.digests.tree(place.root / path)
    if here is not None and here.digest == tree.digest:
        return place.root / path
    folder = place.goku / LAID_OUT / tree.digest / Path(path).name
    if not folder.is_dir():
        if not place.store.holds_tree(tree):
            return None
        partial = folder.with_name(f".{folder.name}.partial")
        remove(partial)
        place.store.lay_out(tree, partial)
        partial.replace(folder)
    return folder


def _vae(place: Workspace, folder: Path) -> Path:
    """The VAE whose latents the phase was trained on, wherever it lies; else the workspace's, which loading then refuses."""
    config: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    wanted = config.get("encoders", {}).get("vae")
    for record in place.records():
        for path, tree in record.outputs.items():
            if record.stage == "vae" and tree.files.get(WEIGHTS) == wanted and (found := _present(place, path, tree)):
                return found
    return place.root / "models/vae"


def _trained_phases(workspace: Path) -> str:
    """A hint at the phases that were trained in a workspace but perhaps never promoted."""
    folders = sorted(path.parent for path in (workspace / "models").glob(f"*/{WEIGHTS}") if path.parent.name != "vae")
    if not folders:
        return ""
    names = ", ".join(f"models/{folder.name}" for folder in folders)
    return f" Trained here, and to be used as they are: {names}; or name a training by its fingerprint or MLflow run."
