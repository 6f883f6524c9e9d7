"""Suites of the sample corpus in the benchmarks' own formats, so that all of it works without a network.

What the procedural world cannot show has no prompts: human_action and appearance_style of VBench, 3d_spatial of
T2I-CompBench. VBench-2.0 has none at all: its dimensions are about people, physics and plots.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

from goku_core.evaluate.suites import compbench, dpg, geneval, vbench
from goku_core.pipeline.errors import GokuError
from goku_core.scenes.grammar import benchmark_prompts, motion_prompts
from goku_core.scenes.vocabulary import COLORS, GENEVAL_TASKS, NUMBERS, RELATIONS, SHAPES, phrase, plural

LICENCE = "as this project"
NOTICE = "prompts of the procedural sample corpus"
PER_TASK = 24  # our choice: what the smallest vocabulary of colours and shapes gives
GROUNDS = ("plain ground", "striped ground", "cloudy ground")
VBENCH_RELATIONS = {
    "left of": "on the left of",
    "right of": "on the right of",
    "above": "on the top of",
    "below": "on the bottom of",
}


def write(benchmark: str, folder: Path) -> Path:
    """Writes the suite's files, the same bytes each time; returns the folder. GokuError where the corpus has none."""
    if benchmark not in _WRITERS:
        raise GokuError(
            f"the sample corpus has no prompts for {benchmark}: name the benchmark's own files with --suite. "
            f"It has some for {', '.join(_WRITERS)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _WRITERS[benchmark]().items():
        place = folder / name
        if not place.is_file() or place.read_text(encoding="utf-8") != text:
            place.write_text(text, encoding="utf-8")
    return folder


def _evenly(entries: list[Any], many: int) -> list[Any]:
    return entries if len(entries) <= many else [entries[k * len(entries) // many] for k in range(many)]


def _geneval() -> dict[str, str]:
    entries = [entry for task in GENEVAL_TASKS for entry in _evenly(benchmark_prompts(task), PER_TASK)]
    return {geneval.FILE: "".join(json.dumps(entry) + "\n" for entry in entries)}


def _vbench() -> dict[str, str]:
    entries = [_entry(*one) for one in _vbench_entries()]
    return {vbench.FILE: json.dumps(entries, indent=1) + "\n"}


def _entry(text: str, dimensions: list[str], truth: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"prompt_en": text, "dimension": dimensions} | ({"auxiliary_info": truth} if truth else {})


def _vbench_entries() -> Iterator[tuple[str, list[str], dict[str, Any] | None]]:
    for shape in SHAPES:
        yield f"in a still frame, {phrase(shape)}", ["temporal_flickering"], None
    moving = [str(entry["prompt"]) for entry in motion_prompts() if entry["tag"] == "motion"]
    for text in _evenly(moving, PER_TASK):
        yield text, ["subject_consistency", "dynamic_degree", "motion_smoothness"], None
    zooms = [str(entry["prompt"]) for entry in motion_prompts() if entry["tag"] == "zoom"]
    for text in _evenly(zooms, PER_TASK // 2):
        yield text, ["temporal_style"], None
    for shape in SHAPES:
        yield phrase(shape), ["object_class"], {"object_class": {"object": shape}}
        for color in COLORS:
            yield phrase(shape, color), ["color"], {"color": {"color": color}}
    for a, b in permutations(SHAPES, 2):
        yield (
            f"{phrase(a)} and {phrase(b)}",
            ["multiple_objects"],
            {"multiple_objects": {"object": f"{a} and {b}"}},
        )
        relation = VBENCH_RELATIONS[RELATIONS[(SHAPES.index(a) + SHAPES.index(b)) % len(RELATIONS)]]
        placed = {"object_a": a, "object_b": b, "relationship": relation}
        yield (
            f"{phrase(a)} {relation} {phrase(b)}",
            ["spatial_relationship"],
            {"spatial_relationship": {"spatial_relationship": placed}},
        )
    for ground in GROUNDS:
        yield f"a {ground}", ["scene", "background_consistency"], {"scene": {"scene": {"scene": ground}}}
    for text in _colored_pairs(PER_TASK):
        yield text, ["overall_consistency", "aesthetic_quality", "imaging_quality"], None


def _colored_pairs(many: int) -> list[str]:
    entries = _evenly(benchmark_prompts("color_attr"), many)
    return [str(entry["prompt"]).removeprefix("a photo of ") for entry in entries]


def _dpg() -> dict[str, str]:
    """One row per question: things, then their colours, then how they lie, each depending on what it is about."""
    columns = (
        "item_id",
        "text",
        "keywords",
        "proposition_id",
        "dependency",
        "category_broad",
        "category_detailed",
        "tuple",
        "question_natural_language",
    )
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(columns)
    for number, entry in enumerate(_evenly(benchmark_prompts("position"), PER_TASK)):
        text = str(entry["prompt"]).removeprefix("a photo of ")
        reference, placed = entry["include"]
        a, b, relation = placed["class"], reference["class"], placed["position"][0]
        rows = [
            ("0", "entity", "whole", f"entity - whole ({a})", f"Is there {phrase(a)}?"),
            ("0", "entity", "whole", f"entity - whole ({b})", f"Is there {phrase(b)}?"),
            (
                "1",
                "attribute",
                "color",
                f"attribute - color ({a}, {placed['color']})",
                f"Is the {a} {placed['color']}?",
            ),
            (
                "2",
                "attribute",
                "color",
                f"attribute - color ({b}, {reference['color']})",
                f"Is the {b} {reference['color']}?",
            ),
            (
                "1,2",
                "relation",
                "spatial",
                f"relation - spatial ({a}, {b}, {relation})",
                f"Is the {a} {relation} the {b}?",
            ),
        ]
        for k, (parents, broad, detailed, named, question) in enumerate(rows, start=1):
            table.writerow((f"corpus{number}", text, "", k, parents, broad, detailed, named, question))
    return {dpg.QUESTIONS: out.getvalue()}


def _compbench() -> dict[str, str]:
    numeracy = [
        f"{phrase(a, None, m)} and {phrase(b, None, n)}"
        for a, b in permutations(SHAPES, 2)
        for m, n in permutations(NUMBERS, 2)
    ]
    placed = [f"{phrase(a)} {relation} {phrase(b)}" for a, b in permutations(SHAPES, 2) for relation in RELATIONS]
    moving = [str(entry["prompt"]) for entry in motion_prompts() if entry["tag"] == "motion"]
    position = [str(entry["prompt"]).removeprefix("a photo of ") for entry in benchmark_prompts("position")]
    spatial, action = _evenly(position, PER_TASK // 2), _evenly(moving, PER_TASK // 2)
    both = [f"{text} on a {GROUNDS[k % 3]}" for k, text in enumerate(_evenly(moving[1:], PER_TASK // 4))]
    files = {
        "color_val.txt": _colored_pairs(PER_TASK),
        "shape_val.txt": [f"{phrase(a)} and {phrase(b)}" for a, b in permutations(SHAPES, 2)],
        "texture_val.txt": [f"{phrase(shape)} on a {ground}" for shape in SHAPES for ground in GROUNDS],
        "spatial_val.txt": _evenly(placed, PER_TASK),
        "numeracy_val.txt": _evenly(numeracy, PER_TASK),
        "non_spatial_val.txt": _evenly(moving, PER_TASK),
        "complex_val.txt": spatial + action + both,
        "complex_val_spatial.txt": spatial,
        "complex_val_action.txt": action,
        "complex_val_spatialaction.txt": both,
        compbench.OBJECTS: [f"{shape} - {plural(shape)}" for shape in SHAPES],
    }
    return {name: "\n".join(lines) + "\n" for name, lines in files.items()}


_WRITERS: dict[str, Callable[[], dict[str, str]]] = {
    "geneval": _geneval,
    "vbench": _vbench,
    "dpg": _dpg,
    "compbench": _compbench,
}
