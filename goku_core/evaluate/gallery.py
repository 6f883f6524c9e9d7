"""What people look at: one sheet of pictures per task, some single pictures, some clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from goku_core.evaluate.manifest import Prompt, Sample
from goku_core.media.encode import write_image, write_video

SINGLES_PER_TASK = 8
CLIPS_PER_BENCHMARK = 8
COLUMNS = 10
CLIP_CRF = 16


def write_sheets(
    folder: Path, prompts: Sequence[Prompt], samples: Sequence[Sample], images: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """samples/TASK.webp with every picture of the task. Returns where each lies: {task: file, columns, samples}."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    sheets = {}
    for task in dict.fromkeys(prompt.task for prompt in prompts):
        ids = [s.sample_id for s in samples if s.prompt.task == task]
        file = f"samples/{task}.webp"
        write_image(folder / file, contact_sheet([images[i] for i in ids], COLUMNS), quality=88)
        sheets[task] = {"file": file, "columns": COLUMNS, "samples": ids}
    return sheets


def contact_sheet(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures (H, W, 3) in rows of `columns` without gaps; the last row is filled with grey."""
    height, width, _ = pictures[0].shape
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height, columns * width, 3), 128, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        sheet[y : y + height, x : x + width] = picture
    return sheet


def write_singles(folder: Path, samples: Sequence[Sample], images: Mapping[str, np.ndarray]) -> list[dict[str, str]]:
    """PNGs of the first samples of each task, by sample id: not chosen by their verdict. At most 48 for six tasks."""
    taken: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda s: (int(s.sample_id.rsplit("-", 1)[1]), s.sample_id)):
        group = taken.setdefault(sample.prompt.task, [])
        if len(group) < SINGLES_PER_TASK:
            group.append(sample)
    shown = []
    for sample in (s for group in taken.values() for s in group):
        file = f"samples/{sample.sample_id}.png"
        write_image(folder / file, images[sample.sample_id])
        shown.append(_entry(file, sample))
    return shown


def write_clips(
    folder: Path, groups: Mapping[str, Sequence[Sample]], clips: Mapping[str, np.ndarray], fps: float
) -> list[dict[str, str]]:
    """clips/SAMPLE.mp4, the first eight of each benchmark."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    shown = []
    for samples in groups.values():
        for sample in samples[:CLIPS_PER_BENCHMARK]:
            file = f"clips/{sample.sample_id}.mp4"
            write_video(folder / file, iter(clips[sample.sample_id]), fps, crf=CLIP_CRF)
            shown.append(_entry(file, sample))
    return shown


def _entry(file: str, sample: Sample) -> dict[str, str]:
    return {"file": file, "sample": sample.sample_id, "task": sample.prompt.task, "prompt": sample.prompt.text}
