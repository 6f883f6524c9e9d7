"""A workspace in which a phase trains in a second: the tiny latents of `latent_workspace`, and a params.yaml for them."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from latent_workspace import make_workspace

from goku_core import config
from goku_core.config import Params

ROOT = Path(__file__).resolve().parents[2]
PHASE = {
    "init_from": "vae",
    "resolution": "low",
    "steps": 12,
    "images": 0.7,
    "clips": 0.3,
    "tokens": 48,
    "learning_rate": 2e-3,
    "warmup": 2,
}
RATE = "train.phases.first.learning_rate"


def new_workspace(folder: Path, space: dict[str, object] | None = None, **tune: object) -> Path:
    """Latents, VAE and params.yaml, with every stage but `train` and `tune` as in the preset smoke."""
    folder.mkdir(parents=True, exist_ok=True)
    make_workspace(folder)
    value = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    value["train"] |= {
        "model": {"name": "custom", "depth": 1, "width": 32, "heads": 2, "ffn": 64},
        "phases": {"first": dict(PHASE)},
        "validation": {"share": 0.3, "every": 4, "samples": 8, "weights": "raw"},
        "previews": {"images": [], "clips": []},
        "checkpoint": {"every": 4},
        "log_every": 4,
    }
    for section in ("evaluate", "promote"):
        value[section] |= {"image_model": "first", "video_model": None, "image_to_video_model": None}
    space = space or {RATE: {"low": 1e-4, "high": 1e-1, "log": True}}
    value["tune"] = {"space": space, "trials": 4, "startup_trials": 2, "pruner": "none", **tune}
    (folder / "params.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
    return folder


def params_of(folder: Path) -> Params:
    return config.load_params(folder / "params.yaml")


if __name__ == "__main__":  # a search in a process of its own, for tests that kill it
    from goku_core.pipeline.executor import _untracked
    from goku_core.tune.study import Search

    workspace = Path(sys.argv[1])
    Search("killed", workspace, params_of(workspace), _untracked).run()
