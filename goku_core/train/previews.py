"""What the model makes of fixed prompts and seeds after a phase: pictures, and clips where the phase trained on clips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from goku_core.generate import Generator
from goku_core.media.encode import write_image, write_video
from goku_core.pipeline.context import Context
from goku_core.shards import ShardReader
from goku_core.train.request import Phase, TrainRequest


def write_previews(
    generator: Generator, phase: Phase, request: TrainRequest, reader: ShardReader, folder: Path, context: Context
) -> None:
    """PNG or MP4 for every prompt, and samples.json that lists them with prompt, seed and kind."""
    folder.mkdir(parents=True)
    listed: list[dict[str, object]] = []
    if phase.images > 0:
        prompts = request.previews.images
        seeds = [context.seed + 1000 + k for k in range(len(prompts))]
        for number, image in enumerate(generator.images(prompts, seeds)):
            file = f"image-{number:02d}.png"
            write_image(folder / file, image)
            listed.append({"file": file, "prompt": prompts[number], "seed": seeds[number], "kind": "image"})
    if phase.clips > 0 and request.previews.clips:
        prompts = request.previews.clips
        seeds = [context.seed + 2000 + k for k in range(len(prompts))]
        if phase.image_condition:
            prompts, firsts = _conditions(generator, reader, len(prompts))
            clips = _continued(generator, prompts, seeds, firsts)
        else:
            clips = generator.clips(prompts, seeds)
        for number, clip in enumerate(clips):
            file = f"clip-{number:02d}.mp4"
            write_video(folder / file, clip, generator.fps, crf=14)
            listed.append({"file": file, "prompt": prompts[number], "seed": seeds[number], "kind": "clip"})
    (folder / "samples.json").write_text(json.dumps(listed, indent=2) + "\n")


def _conditions(generator: Generator, reader: ShardReader, count: int) -> tuple[list[str], list[np.ndarray]]:
    """Captions and first frames (H, W, 3), each of its own size, of the first clips of the data set, decoded from their latents."""
    rows = np.flatnonzero(reader.index["kind"] == "video")[:count]
    firsts = []
    for row in rows:
        latent = torch.from_numpy(reader.latent(row)[None, :, :1])
        with torch.no_grad():
            frame = generator.vae.decode(latent)[0, :, 0].clamp(-1, 1)
        firsts.append(((frame + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    return [str(reader.index["text"][row]) for row in rows], firsts


def _continued(
    generator: Generator, prompts: list[str], seeds: list[int], firsts: list[np.ndarray]
) -> list[np.ndarray]:
    """A clip for each first frame, at its size; frames of one size are sampled together."""
    clips: dict[int, np.ndarray] = {}
    for shape in dict.fromkeys(first.shape for first in firsts):
        chosen = [number for number, first in enumerate(firsts) if first.shape == shape]
        made = generator.clips(
            [prompts[number] for number in chosen],
            [seeds[number] for number in chosen],
            height=shape[0],
            width=shape[1],
            first_frames=np.stack([firsts[number] for number in chosen]),
        )
        clips |= dict(zip(chosen, made, strict=True))
    return [clips[number] for number in range(len(firsts))]
