"""A small published data set and the request of one phase on it: what a drill trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from goku_core.models import VideoVAE, VideoVAEConfig
from goku_core.models.folders import weights_digest
from goku_core.models.text import WordEncoder
from goku_core.shards import ShardWriter, write_index
from goku_core.train.request import TrainRequest

SAMPLES, SHARDS, STEPS, SAVED_EVERY = 1200, 3, 240, 20
TEXT = {"kind": "words", "width": 16, "max_tokens": 16}
CAPTIONS = ("a red circle", "two blue stars", "a green square above a star")
# A drill waits for hangs: its steps take milliseconds, and so may its limits.
FAULTS = {
    "look_seconds": 0.1,
    "hang_floor_seconds": 3.0,
    "data_seconds": 6.0,
    "backoff_seconds": 0.2,
    "grace_seconds": 15.0,
}


def request(**changes: Any) -> TrainRequest:
    """Of two ranks that share the weights. `changes` replace sections."""
    values: dict[str, Any] = {
        "model": {"name": "custom", "depth": 2, "width": 32, "heads": 2, "ffn": 64},
        "phases": {
            "drill": {"init_from": "vae", "resolution": "low", "steps": STEPS, "tokens": 48, "learning_rate": 3e-3,
                      "warmup": 20, "images": 0.7, "clips": 0.3}
        },
        "checkpoint": {"every": SAVED_EVERY},
        "log_every": 5,
        "data": {"unreadable_max": 0.1},
        "sampling": {"steps": 2},
        "previews": {"images": ["a red circle"]},
        "parallel": {"ranks_per_node": 2, "device": "cpu"},
        "watch": {"snapshot_every": 10, "window": 40, "least_history": 16},
        "faults": FAULTS,
    }  # fmt: skip
    return TrainRequest.model_validate(values | changes)


def make(folder: Path, poison: int | None = None) -> Path:
    """A workspace with a VAE and latents of pictures and clips, made by the project's own writers; the same on every call.

    poison  number of a sample whose latent holds not a number
    """
    torch.manual_seed(0)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=8, encoder_depth=1, decoder_depth=1))
    (folder / "models/vae").mkdir(parents=True)
    save_file(vae.state_dict(), folder / "models/vae/model.safetensors")
    (folder / "models/vae/config.json").write_text(json.dumps({"kind": "goku-vae", "vae": vae.config.to_json()}))
    draws, encoder = np.random.default_rng(0), WordEncoder(16, 16)
    resolutions = json.dumps({"low": {"height": 32, "width": 32, "frames": 5, "fps": 8.0}})
    encoders = {"vae": weights_digest(folder / "models/vae"), "text": encoder.fingerprint}
    encoders |= {"text_request": json.dumps(TEXT), "resolutions": resolutions}
    # Several shards: what stands in for a sample of a damaged one is taken from another.
    writers = [ShardWriter(folder / "data/latents/low") for _ in range(SHARDS)]
    for number in range(SAMPLES):
        clip = number % 3 == 0
        latent = draws.standard_normal((4, 2 if clip else 1, 4, 4)).astype(np.float32)
        if number == poison:
            latent[0, 0, 1, 1] = np.nan
        row = {
            "sample_id": f"{number:04d}",
            "clip_id": f"{number:04d}",
            "first_seconds": 0.0,
            "text": CAPTIONS[number % 3],
        }
        row |= {"kind": "video" if clip else "image", "tokens": 8 if clip else 4}
        writers[number * SHARDS // SAMPLES].add(row, latent, encoder.encode(CAPTIONS[number % 3]).numpy())
    rows = [row for writer in writers for row in writer.close()]
    write_index(folder / "data/latents/low/index.parquet", rows, encoders)
    (folder / "data/latents/encoders.json").write_text(json.dumps(encoders))
    return folder
