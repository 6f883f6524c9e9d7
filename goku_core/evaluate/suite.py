"""What the line asks of its models: prompts of the sample corpus in GenEval's metadata format, as samples of a manifest.

Manifest first: every sample has its id, prompt, metadata and seed before anything is drawn. File names are for people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from goku_core.evaluate.manifest import Drawing, Prompt, Sample, draw_seed, plan
from goku_core.pipeline.errors import GokuError
from goku_core.scenes.grammar import benchmark_prompts, motion_prompts
from goku_core.scenes.scene import Scene, sample_scene
from goku_core.scenes.vocabulary import GENEVAL_TASKS

FIELDS = {"tag", "prompt", "include", "exclude", "motion"}
PHOTO = "a photo of "
IMAGE_DIMENSIONS = ("geneval",)
CLIP_DIMENSIONS = {
    "motion": ("direction", "subject", "flicker", "subject_consistency"),
    "i2v": ("direction", "subject", "flicker", "subject_consistency", "first_frame_psnr"),
}


def generator(seed: int, purpose: str, sample_id: str) -> np.random.Generator:
    return np.random.default_rng(draw_seed(seed, purpose, sample_id))


def image_prompts(per_task: int, seed: int, photo: bool = True) -> list[Prompt]:
    """Up to `per_task` different prompts of each GenEval task, drawn from all that the corpus grammar allows.

    A vocabulary of four shapes has 4 single-object prompts and 12 two-object ones: those tasks give all they have.
    """
    lines: list[Mapping[str, Any]] = []
    for task in GENEVAL_TASKS:
        entries = benchmark_prompts(task)
        order = generator(seed, "suite", task).permutation(len(entries))[:per_task]
        lines += [entries[i] for i in sorted(order)]
    if not photo:
        lines = [{**line, "prompt": line["prompt"].removeprefix(PHOTO)} for line in lines]
    return [_prompt("geneval", i, line, IMAGE_DIMENSIONS) for i, line in enumerate(lines)]


def image_samples(
    prompts: Sequence[Prompt], per_task: int, per_prompt: int, seed: int, drawing: Drawing = Drawing()
) -> list[Sample]:
    """`per_prompt` samples of every prompt (GenEval: 4). Tasks with fewer than `per_task` prompts get more of each.

    So every task rests on about per_task * per_prompt pictures, and no score rests on a handful.
    """
    counts = {task: sum(p.task == task for p in prompts) for task in {p.task for p in prompts}}
    many = {p.prompt_id: max(per_prompt, -(-per_task * per_prompt // counts[p.task])) for p in prompts}
    return plan("geneval", "image", prompts, many, seed, drawing)


def clip_samples(
    benchmark: str, prompts: int, per_prompt: int, seed: int, drawing: Drawing = Drawing()
) -> list[Sample]:
    """Samples for prompts "a green triangle moving right"; the directions in turn. benchmark: "motion", "i2v"."""
    entries = [entry for entry in motion_prompts() if entry["tag"] == "motion"]
    by_way: dict[str, list[Mapping[str, Any]]] = {}
    for i in generator(seed, "suite", benchmark).permutation(len(entries)):
        by_way.setdefault(str(entries[i]["motion"]), []).append(entries[i])
    ways = sorted(by_way)
    chosen = [by_way[ways[i % len(ways)]][i // len(ways)] for i in range(min(prompts, len(entries)))]
    dimensions = CLIP_DIMENSIONS[benchmark]
    asked = [_prompt(benchmark, i, entry, dimensions) for i, entry in enumerate(chosen)]
    return plan(benchmark, "video", asked, per_prompt, seed, drawing)


def _prompt(benchmark: str, number: int, entry: Mapping[str, Any], dimensions: tuple[str, ...]) -> Prompt:
    return Prompt(f"{benchmark}-{number:05d}", entry["prompt"], entry["tag"], dimensions, entry)


def true_scene(metadata: Mapping[str, Any], rng: np.random.Generator) -> Scene:
    """A scene that shows what the metadata asks for: layout drawn, looks taken from the clauses."""
    clauses = metadata["include"]
    task, motion = metadata["tag"], metadata.get("motion")
    if task == "motion":
        while len((scene := sample_scene(rng, task, motion=motion)).things) != 1:
            pass
        looks = [clauses[0]]
    elif task == "counting":
        while len((scene := sample_scene(rng, task)).things) != clauses[0]["count"]:
            pass
        looks = [clauses[0]] * clauses[0]["count"]
    elif task == "position":
        relation = clauses[1]["position"][0]
        while (scene := sample_scene(rng, task)).relation != relation:
            pass
        looks = [clauses[1], clauses[0]]  # GenEval lists the reference first, the scene lists the thing first
    else:
        scene = sample_scene(rng, task)
        looks = list(clauses)
    things = tuple(
        replace(thing, shape=look["class"], color=look.get("color", thing.color))
        for thing, look in zip(scene.things, looks, strict=True)
    )
    return replace(scene, things=things)


def write_metadata(path: Path, prompts: Sequence[Prompt]) -> None:
    """JSON lines as GenEval's own file: tag, include, exclude where there is one, prompt."""
    lines = [json.dumps(dict(p.metadata), sort_keys=False) for p in prompts]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_metadata(path: Path) -> list[Prompt]:
    """Reads GenEval's evaluation_metadata.jsonl, or ours. GokuError names the line that is not in the format."""
    prompts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        try:
            entry = json.loads(line)
            _check_entry(entry)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise GokuError(f"{path}, line {number + 1}: not GenEval metadata: {error}") from error
        prompts.append(_prompt("geneval", number, entry, IMAGE_DIMENSIONS))
    return prompts


def _check_entry(entry: Mapping[str, Any]) -> None:
    if unknown := set(entry) - FIELDS:
        raise ValueError(f"unknown field {sorted(unknown)[0]!r}; allowed: {', '.join(sorted(FIELDS))}")
    if not isinstance(entry["prompt"], str) or not isinstance(entry["tag"], str):
        raise ValueError("tag and prompt must be text")
    for place, clause in enumerate(entry["include"]):
        if not isinstance(clause["class"], str) or int(clause["count"]) < 1:
            raise ValueError("a clause needs a class and a count of at least 1")
        if "position" in clause and not 0 <= clause["position"][1] < place:
            raise ValueError("position must point to an earlier clause")
    for clause in entry.get("exclude", ()):
        if int(clause["count"]) < 1:
            raise ValueError("an exclude clause needs a count of at least 1")
