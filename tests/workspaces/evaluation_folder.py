"""An evaluation folder in small: real pictures and clips of the scenes, with the records of a judge that knows where
things are."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from goku_core.evaluate import manifest
from goku_core.evaluate.manifest import Drawing, Prompt, Sample, plan
from goku_core.evaluate.records import Record, RecordStore, evidence
from goku_core.media.encode import write_image, write_video
from goku_core.scenes.draw import draw, outline
from goku_core.scenes.scene import Scene, sample_scene

SIZE = (64, 112)
FRAMES, FPS = 24, 8.0
JUDGE = "known-scenes/1"
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
HOSTILE = '<script>window.entered = 1</script></script><img src=x onerror="window.entered = 1"> & a "red" circle'


def planned(per_task: int = 2, per_prompt: int = 2, clips: int = 2, seed: int = 0, **drawing: Any) -> list[Sample]:
    """Pictures of GenEval's six tasks, then clips; the first prompt is one that would like to be markup."""
    prompts = []
    for number, task in enumerate(task for task in TASKS for _ in range(per_task)):
        text = HOSTILE if number == 0 else f"a photo of scene {number}, {task.replace('_', ' ')}"
        prompts.append(Prompt(f"geneval-{number:05d}", text, task, ("geneval",), {"tag": task}))
    moving = [
        Prompt(f"motion-{k:05d}", f"a shape that moves, number {k}", "motion", ("direction", "flicker"), {})
        for k in range(clips)
    ]
    samples = plan("geneval", "image", prompts, per_prompt, seed, Drawing(**drawing))
    return samples + plan("motion", "video", moving, 1, seed, Drawing(**drawing))


def scene_of(sample: Sample) -> Scene:
    task = "motion" if sample.benchmark == "motion" else sample.task
    return sample_scene(np.random.default_rng(sample.seed), task)


def boxes(scene: Scene, time: float = 0.0, size: tuple[int, int] = SIZE) -> list[dict[str, Any]]:
    """Where the things of a scene are, as a judge's detections."""
    found = []
    for thing in scene.things_at(time):
        corners = outline(thing, *size)
        box = [round(float(v), 1) for v in (*corners.min(axis=0), *corners.max(axis=0))]
        found.append({"label": thing.shape, "score": 0.97, "box": box, "area": 1.0, "color": thing.color})
    return found


def said_of(sample: Sample, wrong: bool, judges: Mapping[str, str]) -> list[Record]:
    scene = scene_of(sample)

    def record(dimension: str, score: float, verdict: bool | None, reason: str, saw: str) -> Record:
        return Record(sample.sample_id, sample.benchmark, dimension, sample.task, sample.prompt.text, sample.seed,
                      judges.get(dimension, JUDGE), "", score, 1, verdict, reason, saw)  # fmt: skip

    reason = "expected another thing, found <b>this</b>" if wrong else ""
    if sample.benchmark == "geneval":
        return [record("geneval", float(not wrong), not wrong, reason, evidence(detections=boxes(scene)))]
    path = [
        [scene.things_at(k / FPS)[0].x * SIZE[1], scene.things_at(k / FPS)[0].y * SIZE[0]] for k in range(0, FRAMES, 4)
    ]
    return [
        record(
            "direction", float(not wrong), not wrong, reason, evidence(centres=path, answers={"which way?": "left"})
        ),
        record("flicker", 0.75 if wrong else 0.9375, None, "", evidence()),
    ]


def write_folder(
    folder: Path,
    samples: list[Sample] | None = None,
    wrong: Collection[str] = (),
    judges: Mapping[str, str] | None = None,
    stamp: Mapping[str, Any] | None = None,
    modes: Mapping[str, list[str]] | None = None,
    draw_them: bool = True,
) -> Path:
    """wrong: ids of the samples that are judged wrong. judges: dimension -> judge, where it is another. modes: of judges."""
    samples = planned() if samples is None else samples
    folder.mkdir(parents=True)
    manifest.write(folder / "manifest.parquet", samples)
    (folder / "samples").mkdir()
    if draw_them:
        for sample in samples:
            write_sample(folder, sample)
    said = [r for s in samples if s.prompt.dimensions for r in said_of(s, s.sample_id in wrong, judges or {})]
    RecordStore(folder / "records").append(said)
    environments = {"0": stamp or {"torch": "2.13.0", "device": "cpu", "ffmpeg": {"libavcodec": "62.1"}}}
    told = {"environments": environments, "judges": {judge: {"modes": asked} for judge, asked in (modes or {}).items()}}
    (folder / "judging.json").write_text(json.dumps(told))
    (folder / "suite.json").write_text(json.dumps({"suite": "scenes", "licence": "none needed"}))
    return folder


def write_sample(folder: Path, sample: Sample) -> None:
    scene = scene_of(sample)
    if sample.media == "image":
        write_image(folder / f"samples/{sample.sample_id}.png", draw(scene, *SIZE))
    else:
        frames = (draw(scene, *SIZE, time=k / FPS) for k in range(FRAMES))
        write_video(folder / f"samples/{sample.sample_id}.mp4", frames, FPS)
