"""A workspace with a champion that really draws: a tiny VAE and tiny trained phases, bundled and in the ledger."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from latent_workspace import make_workspace, train
from safetensors.torch import load_file, save_file

from goku_core.pipeline.commit import Workspace
from goku_core.promote import bundle, ledger

FINGERPRINT = "0badcafe" * 8
SIZE = (32, 32)


def drawing_workspace(root: Path) -> str:
    """Phases `first` (pictures and clips) and `i2v` in root/models, a champion in root/ledger; returns its digest."""
    make_workspace(root)
    for phase, settings in {"first": {}, "i2v": {"init_from": "first"}}.items():
        train(root, phase, root / "attempts" / phase, steps=6, **settings)
        shutil.move(root / "attempts" / phase / "out/models" / phase, root / "models" / phase)
        _shake(root / "models" / phase / "model.safetensors")
    models = {"t2i": root / "models/first", "t2v": root / "models/first", "i2v": root / "models/i2v"}
    digest = bundle.build(root, root / "partial", models, root / "models/vae", {"phases": ["first", "i2v"]})
    ledger.append(root, lambda entries: promotion(digest))
    return digest


def _shake(weights: Path) -> None:
    """After six steps the zero-initialised gates still hide the text; with noise on every weight all inputs count."""
    noise = torch.Generator().manual_seed(0)
    tensors = {
        key: value + 0.3 * torch.randn(value.shape, generator=noise) for key, value in load_file(weights).items()
    }
    save_file(tensors, weights)


def promotion(digest: str) -> ledger.Draft:
    return ledger.Draft(
        decision="promoted",
        bundle=digest,
        champion=digest,
        against=None,
        score=0.5,
        interval=(0.4, 0.6),
        protocol="geneval-6",
        evidence="00" * 32,
        reason="first",
    )


def commit_training(root: Path, phase: str, fingerprint: str = FINGERPRINT) -> None:
    """A commit record and the store's objects of a phase in root/models and of the VAE, as the executor leaves them."""
    with Workspace(root) as place:
        for cell, name, key in (("vae", "models/vae", "1" * 64), (f"train@{phase}", f"models/{phase}", fingerprint)):
            tree = place.digests.tree(root / name)
            assert tree is not None
            place.store.put(root / name, tree)
            place.write_record(
                {
                    "cell": cell,
                    "stage": cell.partition("@")[0],
                    "fingerprint": key,
                    "outputs": {name: tree.as_json()},
                    "finished": "2026-01-02T03:04:05+00:00",
                }
            )
