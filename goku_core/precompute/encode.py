"""The operator of `precompute`: rows of kept clips to latents in shards. Runs in a supervised child.

Rows go in, tallies come out; pixels live and die inside. A batch of rows is written as one shard per resolution, and its index
rows beside them last (`batches.py`): a killed run finds whole shards or none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from goku_core.media.spans import read_each, resized, stream_frames
from goku_core.models.folders import load_vae, text_encoder
from goku_core.models.text import TextEncoder
from goku_core.precompute.batches import BATCH, BATCH_ROWS, commit, shard_folder
from goku_core.precompute.latents import PATCH, Batches, LatentEncoder
from goku_core.precompute.request import PrecomputeRequest
from goku_core.precompute.samples import Sample, Take, takes
from goku_core.shards import ShardWriter

SCHEMA = pa.schema([("batch", pa.string()), ("samples", pa.int64())])


class OtherEncoderError(ValueError):
    """The encoders here are not those that the run began with."""


def encode_rows(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """settings: request (JSON of PrecomputeRequest), vae (folder), encoders (their fingerprints), workspace, scratch,
    pictures_from_clips (whether the data set has no pictures of its own).

    A batch that the pool hands over in part, to find the row that breaks it, is encoded and not written.
    """
    if batch.num_rows == 0:
        return pa.RecordBatch.from_pylist([], schema=SCHEMA)
    request = PrecomputeRequest.model_validate(settings["request"])
    latents, texts = _networks(json.dumps(settings, sort_keys=True))
    unit = max(16, PATCH * latents.vae.config.stride[1])
    workspace, rows = Path(settings["workspace"]), batch.to_pylist()
    samples: list[Sample] = []
    batches = Batches(latents)
    for row in rows:
        for take in takes(row, request, workspace, settings["pictures_from_clips"], unit):
            samples += _encode(take, latents, batches, len(samples))
    found = batches.finish()
    key = rows[0][BATCH]
    if len(rows) == rows[0][BATCH_ROWS]:
        features = _texts(texts, [sample.row["text"] for sample in samples], request.batch_tokens)
        written = _write(samples, found, features, Path(settings["scratch"]))
        commit(Path(settings["scratch"]), key, written, settings["encoders"])
    return pa.RecordBatch.from_pylist([{"batch": key, "samples": len(samples)}], schema=SCHEMA)


@lru_cache(maxsize=1)
def _networks(settings: str) -> tuple[LatentEncoder, TextEncoder]:
    given = json.loads(settings)
    request, encoders = PrecomputeRequest.model_validate(given["request"]), given["encoders"]
    # The pool shows a worker its own accelerator and no other.
    device = torch.device("cuda" if request.device != "cpu" and torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0 / request.workers_per_device, device)
        # The same bytes in every attempt, and those of a CPU but for the last bit of half precision.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
    try:
        vae = load_vae(Path(given["vae"]), encoders["vae"])
        text = text_encoder(request.text.model_dump(), encoders["text"], given["workspace"])
    except ValueError as error:
        raise OtherEncoderError(str(error)) from error
    return LatentEncoder(vae, device, request.batch_tokens, request.tile_side), text.to(device)


def _encode(take: Take, latents: LatentEncoder, batches: Batches, place: int) -> list[Sample]:
    """Puts what a take gives into `batches`, from `place` on, and returns its samples; none where the clip ends too early."""
    kept: list[Sample] = []
    if not take.apart and latents.is_long(take.frames, *take.size):
        for first, samples in zip(take.firsts, take.samples, strict=True):
            try:
                _stream(_whole(take, first), samples, latents, batches, place + len(kept))
            except _EndsEarlyError:
                continue
            kept += samples
        return kept
    clips = read_each(take.span, take.frames, take.fps, *take.size, take.firsts)
    if take.apart:
        clips = [frame[None] for frame in clips[0]]  # a clip that ends early gives fewer
    for clip, samples in zip(clips, take.samples, strict=False):
        if not take.apart and len(clip) < take.frames:
            continue
        if latents.is_long(len(clip), *take.size):
            _stream(clip, samples, latents, batches, place + len(kept))
        else:
            for number, sample in enumerate(samples):
                batches.put(place + len(kept) + number, resized(clip, *sample.size))
        kept += samples
    return kept


def _stream(
    frames: Iterable[np.ndarray], samples: list[Sample], latents: LatentEncoder, batches: Batches, place: int
) -> None:
    for number, latent in enumerate(latents.stream(frames, [sample.size for sample in samples])):
        batches.done(place + number, latent)


class _EndsEarlyError(Exception):
    """Fewer frames came than a clip's latent needs."""


def _whole(take: Take, first: float) -> Iterator[np.ndarray]:
    number = 0
    for frame in stream_frames(take.span, take.frames, take.fps, *take.size, first):
        number += 1
        yield frame
    if number < take.frames:
        raise _EndsEarlyError


def _texts(encoder: TextEncoder, texts: list[str], tokens: int) -> dict[str, np.ndarray]:
    """Features (M, width) by text; each text once, whatever the number of windows and resolutions it stands at."""
    different = sorted(set(texts))
    encoded = encoder.encode_batch(different, tokens)
    return {text: found.cpu().numpy() for text, found in zip(different, encoded, strict=True)}


def _write(
    samples: list[Sample], latents: dict[int, np.ndarray], features: dict[str, np.ndarray], scratch: Path
) -> list[dict[str, Any]]:
    """One shard per resolution; index rows, each with its resolution."""
    rows: list[dict[str, Any]] = []
    for resolution in sorted({sample.resolution for sample in samples}):
        writer = ShardWriter(shard_folder(scratch, resolution))
        for place, sample in enumerate(samples):
            if sample.resolution == resolution:
                latent = latents.pop(place)
                tokens = latent.shape[1] * (latent.shape[2] // PATCH) * (latent.shape[3] // PATCH)
                size = dict(zip(("height", "width"), sample.size, strict=True))
                writer.add({**sample.row, **size, "tokens": tokens}, latent, features[sample.row["text"]])
        rows += [{**row, "resolution": resolution} for row in writer.close()]
    return rows
