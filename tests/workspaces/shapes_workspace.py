"""Kept pictures and clips, portrait and landscape, with a tiny VAE; and `precompute` over them, here or as a process to kill."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from goku_core.media.encode import write_image, write_video
from goku_core.media.probe import probe
from goku_core.models import VideoVAE, VideoVAEConfig
from goku_core.pipeline.context import Context
from goku_core.precompute import Request, stage
from goku_core.precompute.report import Report
from goku_core.scenes.draw import draw
from goku_core.scenes.scene import sample_scene

SIZES = ((96, 176), (176, 96), (128, 128))  # landscape, portrait, square
REQUEST: dict[str, Any] = {
    "resolutions": {
        "low": {"height": 32, "width": 48, "frames": 9},
        "high": {"height": 64, "width": 112, "frames": 9},
    },
    "text": {"kind": "words", "width": 16},
}


def make_workspace(folder: Path, pictures: int = 3, clips: int = 2) -> Path:
    """`pictures` pictures, then `clips` clips of 1.5 s; sizes in turn."""
    raw, draws, rows = folder / "data/raw", np.random.default_rng(3), []
    raw.mkdir(parents=True)
    for number in range(pictures + clips):
        clip, (height, width) = number >= pictures, SIZES[number % len(SIZES)]
        scene = sample_scene(draws, "motion" if clip else "colors")
        path, end = raw / (f"{number:02d}.mp4" if clip else f"{number:02d}.png"), 1
        if clip:
            write_video(path, (draw(scene, height, width, time=t / 24) for t in range(36)), 24, crf=18)
            end = int(1.5 / probe(path).time_base)
        else:
            write_image(path, draw(scene, height, width))
        media_id = f"{number:064x}"
        row = {"clip_id": f"{media_id}:0-{end}", "media_id": media_id, "uri": path.relative_to(folder).as_posix()}
        row |= {"kind": "video" if clip else "image", "start_pts": 0, "end_pts": end, "caption": f"scene {number}"}
        row |= {"text": f"scene {number}. motion: 3", "seconds": 1.5 if clip else 0.0, "outcome": "kept"}
        row |= {"height": height, "width": width, "motion": 3.0 if clip else None, "quality_heuristic": 5.5}
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), folder / "data/clips.parquet")
    make_vae(folder / "models/vae")
    return folder


def make_vae(folder: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=8, encoder_depth=1, decoder_depth=1))
    # The convolutional correction starts at zero; only where it is not do tiles and pieces have to be right.
    torch.nn.init.normal_(vae.encoder_out.weight, std=0.1)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(vae.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"kind": "goku-vae", "vae": vae.config.to_json()}))


def precompute(workspace: Path, place: Path, cores: int = 1, **changes: Any) -> Report:
    """Outputs land in place/out, finished shards in place/scratch."""
    context = Context(workspace, place / "out", place / "scratch", cores=cores)
    (place / "out").mkdir(parents=True, exist_ok=True)
    return stage.run(Request(**{**REQUEST, **changes}), context)


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


if __name__ == "__main__":
    stage.ROWS_AT_MOST = int(sys.argv[3])
    precompute(Path(sys.argv[1]), Path(sys.argv[2]))
