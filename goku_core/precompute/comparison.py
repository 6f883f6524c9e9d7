"""A sample of the stored latents decoded again, beside the pixels they were made of."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from goku_core.media.probe import MediaError
from goku_core.media.spans import COLUMNS, Span, read_frames, span_of_row
from goku_core.models.folders import load_vae
from goku_core.models.vae_interface import CausalVAE
from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader


@dataclass(frozen=True)
class Compared:
    """source, decoded: uint8 (T, H, W, 3). psnr in dB over all frames; the VAE's loss and the storing's together."""

    resolution: str
    sample_id: str
    shard: str
    kind: str
    text: str
    source: np.ndarray
    decoded: np.ndarray
    psnr: float

    def as_json(self) -> dict[str, Any]:
        frames, height, width, _ = self.source.shape
        size = {"frames": frames, "height": height, "width": width}
        return {"resolution": self.resolution, "sample_id": self.sample_id, "shard": self.shard, "kind": self.kind,
                **size, "psnr": round(self.psnr, 3)}  # fmt: skip


def compare(workspace: Path, resolution: str, count: int, without: set[str]) -> list[Compared]:
    """`count` samples of a resolution, pictures and clips in turn, the same at every call: those whose ids have the smallest
    digests.

    without   sample ids that are known to be damaged

    Raises GokuError where the VAE is not the one that encoded, or a source cannot be read again.
    """
    folder = workspace / "data/latents" / resolution
    reader = ShardReader(folder)
    fps = json.loads(reader.metadata["resolutions"])[resolution]["fps"]
    ids = [str(sample) for sample in reader.index["sample_id"]]
    whole = [row for row, sample in enumerate(ids) if sample not in without]
    mixed = sorted(whole, key=lambda row: hashlib.sha256(ids[row].encode()).digest())
    kinds = [[row for row in mixed if reader.index["kind"][row] == kind] for kind in ("image", "video")]
    in_turn = [row for pair in zip_longest(*kinds) for row in pair if row is not None]
    chosen = sorted(in_turn[:count])
    if not chosen:
        return []
    try:
        vae = load_vae(workspace / "models/vae", reader.metadata["vae"])
    except (FileNotFoundError, ValueError) as error:
        raise GokuError(str(error)) from error
    spans = _spans(workspace, {str(reader.index["clip_id"][row]) for row in chosen})
    return [_compare(reader, row, resolution, fps, vae, spans) for row in chosen]


def _spans(workspace: Path, clip_ids: set[str]) -> dict[str, Span]:
    rows = pq.read_table(
        workspace / "data/clips.parquet", columns=list(COLUMNS), filters=[("clip_id", "in", sorted(clip_ids))]
    )
    return {row["clip_id"]: span_of_row(row, workspace) for row in rows.to_pylist()}


def _compare(
    reader: ShardReader, row: int, resolution: str, fps: float, vae: CausalVAE, spans: dict[str, Span]
) -> Compared:
    sample_id, clip_id = str(reader.index["sample_id"][row]), str(reader.index["clip_id"][row])
    if clip_id not in spans:
        raise GokuError(
            f"sample {sample_id}: data/clips.parquet has no clip {clip_id}, so these latents are of another version of it. "
            "Run `goku run precompute` again."
        )
    with torch.no_grad():
        pixels = torch.cat(list(vae.decode_stream(torch.from_numpy(reader.latent(row))[None])), dim=2)[0]
    decoded = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
    frames, height, width, _ = decoded.shape
    try:
        source = read_frames(spans[clip_id], frames, fps, height, width, float(reader.index["first_seconds"][row]))
    except (MediaError, FileNotFoundError) as error:
        raise GokuError(f"sample {sample_id}: its source {spans[clip_id].path} cannot be read: {error}") from error
    if source.shape != decoded.shape:
        raise GokuError(
            f"sample {sample_id}: the latent decodes to {_shape(decoded)}, the source gives {_shape(source)}"
        )
    return Compared(
        resolution,
        sample_id,
        str(reader.index["shard"][row]),
        str(reader.index["kind"][row]),
        str(reader.index["text"][row]),
        source,
        decoded,
        psnr(source, decoded),
    )


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """dB between uint8 pictures; 100 where they are equal."""
    error = float(np.square(one.astype(np.float32) - other.astype(np.float32)).mean())
    return min(100.0, 10.0 * math.log10(255.0**2 / max(error, 1e-12)))


def _shape(frames: np.ndarray) -> str:
    return "x".join(map(str, frames.shape[:3]))
