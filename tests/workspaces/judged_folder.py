"""An evaluation folder with samples of random pixels, for the tests of judging."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from goku_core.evaluate import manifest
from goku_core.evaluate.manifest import Drawing, Prompt
from goku_core.media.encode import write_image, write_video

DIMENSIONS = ("first", "second", "third", "fourth")


def evaluation_folder(root: Path, pictures: int = 7, clips: int = 3, dimensions=DIMENSIONS) -> Path:
    """Pictures as PNG and clips as MP4, one sample of each prompt "prompt N", asked in all dimensions of "odd"."""
    folder = root / "evaluation"
    (folder / "samples").mkdir(parents=True)
    prompts = [Prompt(f"odd-{i:05d}", f"prompt {i}", "", tuple(dimensions)) for i in range(pictures + clips)]
    drawing = Drawing(height=32, width=48, fps=8.0)
    samples = manifest.plan("odd", "image", prompts[:pictures], 1, 0, drawing)
    samples += manifest.plan("odd", "video", prompts[pictures:], 1, 0, drawing)
    manifest.write(folder / "manifest.parquet", samples)
    for sample in samples:
        draw(folder, sample, sample.seed)
    return folder


def draw(folder: Path, sample: manifest.Sample, seed: int) -> None:
    """Its file, of other content for another seed."""
    rng = np.random.default_rng(seed)
    if sample.media == "image":
        write_image(folder / f"samples/{sample.sample_id}.png", rng.integers(0, 255, (32, 48, 3), dtype=np.uint8))
    else:
        frames = rng.integers(0, 255, (5, 32, 48, 3), dtype=np.uint8)
        write_video(folder / f"samples/{sample.sample_id}.mp4", iter(frames), 8)
