"""A tiny model of pictures and clips with random weights. As a program it draws a shard of a plan, slowly enough to be killed."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from goku_core.evaluate import manifest, sampling
from goku_core.generate import Generator
from goku_core.models import Goku, GokuConfig, VideoVAE, VideoVAEConfig
from goku_core.models.folders import weights_digest
from goku_core.models.text import WordEncoder


def tiny_painter() -> Generator:
    """32 x 48 px, 5 frames. Its weights say something everywhere, unlike those of a fresh training run."""
    torch.manual_seed(0)
    model = Goku(GokuConfig(2, 32, 2, 64, latent_channels=4, text_width=16))
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.003 if name.startswith("time_embedding") else 0.2)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=8, encoder_depth=1, decoder_depth=1)).eval()
    described = {
        "phase": "t2v",
        "resolution": {"height": 32, "width": 48, "frames": 5, "fps": 8.0},
        "sampling": {"steps": 2, "solver": "euler", "guidance": 3.0, "shift": 1.0},
    }
    return Generator(model, vae, WordEncoder(16, 16), described)


def tiny_model(root: Path) -> Path:
    """The same networks on disk, as a training leaves them: root/models/tiny, which is returned, and root/models/vae."""
    painter = tiny_painter()
    tiny, vae = root / "models/tiny", root / "models/vae"
    for folder, network in ((tiny, painter.model), (vae, painter.vae)):
        folder.mkdir(parents=True)
        save_file(network.state_dict(), folder / "model.safetensors")
    encoders = {"text": painter.encoder.fingerprint, "vae": weights_digest(vae)}
    described = {
        "kind": "goku",
        "model": asdict(painter.model.config),
        "text": {"kind": "words", "width": 16, "max_tokens": 16},
        "encoders": encoders,
    }
    (tiny / "config.json").write_text(json.dumps(painter.config | described))
    (vae / "config.json").write_text(json.dumps({"kind": "goku-vae", "vae": asdict(painter.vae.config)}))
    return tiny


def draw(folder: Path, batch: int, shard: str = "1/1", pause: float = 0.0) -> int:
    """Draws what is missing; `pause` s after each group."""
    samples = manifest.read(folder / "manifest.parquet")
    part = sampling.Shard.of_text(shard)
    return sampling.draw_manifest(folder, samples, tiny_painter(), batch, part, lambda done: time.sleep(pause))


if __name__ == "__main__":  # FOLDER BATCH SHARD PAUSE
    draw(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
