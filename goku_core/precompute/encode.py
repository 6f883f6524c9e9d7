"""The operator of `precompute`: rows of kept clips to latents in shards. Runs in a supervised child.

Rows go in, index rows come out; pixels live and die inside. One decode of a clip serves all resolutions and windows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from goku_core.media.spans import Span, fits, read_frames, resized, span_of_row, window_starts
from goku_core.models.folders import load_vae, text_encoder
from goku_core.precompute.request import PrecomputeRequest, Resolution
from goku_core.shards import ShardWriter, index_schema

PATCH_AREA = 4  # latent values of a token in space: patches of 2x2


def schema() -> pa.Schema:
    """Index rows, and the resolution each belongs to."""
    return index_schema().append(pa.field("resolution", pa.string()))


@lru_cache(maxsize=1)
def _networks(vae_folder: str, text_spec: str) -> tuple[Any, Any]:
    return load_vae(Path(vae_folder)), text_encoder(json.loads(text_spec))


def encode_rows(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """settings: request (JSON of PrecomputeRequest), vae (folder), workspace, output (folder of all resolutions),
    pictures_from_clips (whether the data set has no pictures of its own)."""
    if batch.num_rows == 0:
        return pa.RecordBatch.from_pylist([], schema=schema())
    request = PrecomputeRequest.model_validate(settings["request"])
    vae, encoder = _networks(settings["vae"], request.text.model_dump_json())
    workspace = Path(settings["workspace"])
    pending: dict[str, list[tuple[dict[str, Any], np.ndarray, str]]] = defaultdict(list)
    for row in batch.to_pylist():
        span = span_of_row(row, workspace)
        samples = _samples(span, request)
        if span.is_clip and settings["pictures_from_clips"]:
            samples += _pictures(span, request)
        for resolution, sample, pixels in samples:
            pending[resolution].append((sample, pixels, sample["text"]))
    rows = []
    for resolution, samples in sorted(pending.items()):
        writer = ShardWriter(Path(settings["output"]) / resolution)
        for (sample, _, text), latent in zip(samples, _latents(vae, [p for _, p, _ in samples]), strict=True):
            sample["tokens"] = latent.shape[1] * latent.shape[2] * latent.shape[3] // PATCH_AREA
            writer.add(sample, latent, encoder.encode(text).numpy())
        rows += [{**row, "resolution": resolution} for row in writer.close()]
    return pa.RecordBatch.from_pylist(rows, schema=schema())


def _samples(span: Span, request: PrecomputeRequest) -> list[tuple[str, dict[str, Any], np.ndarray]]:
    """(resolution, index row, uint8 pixels (T, H, W, 3)) for everything stored of one clip or picture."""
    found = []
    for (frames, fps), names in _by_window(request, span).items():
        largest = max(names, key=lambda n: request.resolutions[n].height * request.resolutions[n].width)
        size = request.resolutions[largest]
        starts = window_starts(span, frames, fps, request.windows_per_clip) if span.is_clip else [0.0]
        for number, first in enumerate(starts):
            pixels = read_frames(span, frames, fps, size.height, size.width, first)
            if span.is_clip and len(pixels) < frames:
                continue
            for name in names:
                at = request.resolutions[name]
                scaled = pixels if name == largest else resized(pixels, at.height, at.width)
                found.append((name, _row(span, first, number), scaled))
    return found


def _pictures(span: Span, request: PrecomputeRequest) -> list[tuple[str, dict[str, Any], np.ndarray]]:
    """Frames of a clip as pictures, evenly spread, for a data set without pictures of its own."""
    count = request.pictures_per_clip
    wanted = {name: size for name, size in request.resolutions.items() if size.images}
    if not count or not wanted:
        return []
    largest = max(wanted.values(), key=lambda size: size.height * size.width)
    fps = count / max(span.seconds, 1e-3)
    frames = read_frames(span, count, fps, largest.height, largest.width)
    found = []
    for number, frame in enumerate(frames):
        row = _row(span, round(number / fps, 3), window=1)
        row |= {"sample_id": f"{row['sample_id']}#picture", "kind": "image"}
        found += [(name, dict(row), resized(frame[None], size.height, size.width)) for name, size in wanted.items()]
    return found


def _by_window(request: PrecomputeRequest, span: Span) -> dict[tuple[int, float], list[str]]:
    """Resolutions that store this medium, grouped by the frames they need, so that each group shares a decode."""
    groups: dict[tuple[int, float], list[str]] = defaultdict(list)
    for name, resolution in request.resolutions.items():
        if stores(resolution, span):
            groups[(resolution.frames, resolution.fps) if span.is_clip else (1, 1.0)].append(name)
    return groups


def stores(resolution: Resolution, span: Span) -> bool:
    if span.is_clip:
        return resolution.clips and fits(span, resolution.frames, resolution.fps)
    return resolution.images


def _row(span: Span, first: float, window: int) -> dict[str, Any]:
    """Every second window keeps the plain caption (our choice): prompts that name no motion score must work too."""
    return {
        "sample_id": f"{span.clip_id}@{first:g}" if span.is_clip else span.clip_id,
        "clip_id": span.clip_id,
        "kind": span.kind,
        "first_seconds": first,
        "text": span.caption if window % 2 else span.text,
    }


@torch.no_grad()
def _latents(vae: Any, videos: list[np.ndarray]) -> list[np.ndarray]:
    """Normalised latents (C, T, H, W), in batches of equal shape."""
    out: list[np.ndarray | None] = [None] * len(videos)
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, video in enumerate(videos):
        by_shape[video.shape].append(position)
    for shape, positions in by_shape.items():
        batch = max(1, 64 // shape[0])
        for begin in range(0, len(positions), batch):
            chosen = positions[begin : begin + batch]
            pixels = torch.from_numpy(np.stack([videos[p] for p in chosen])).permute(0, 4, 1, 2, 3)
            latents = vae.encode(pixels.float() / 127.5 - 1.0)
            for position, latent in zip(chosen, latents, strict=True):
                out[position] = latent.numpy()
    return [latent for latent in out if latent is not None]
