"""VBench (arXiv:2311.17982): VBench_full_info.json, a list of {prompt_en, dimension, auxiliary_info}.

The number of a prompt is that of its entry, so that files aligned by line (published rewritings) stay aligned. Two prompts
of the official file occur twice, once for appearance_style and once for overall_consistency: the benchmark finds clips by
their prompt, so one set of five serves both entries. They are one prompt here, with the number of the first entry, the
dimensions of both and both numbers in its metadata. That makes 944 prompts of 946 entries, and the 4720 clips that its
leaderboard counts. Prompts that differ only by case are two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goku_core.evaluate.manifest import Prompt
from goku_core.evaluate.suites.reading import json_list, wrong

MEDIA = "video"
FILE = "VBench_full_info.json"
FILES, EXTRA = (FILE,), ()
PUBLISHED = {FILE: "5dd2de80ee43cda750b2b72ea7023657c0b90d3702041c7e4608c65dbe50dccd"}
LICENCE = "Apache-2.0"
NOTICE = "VBench prompts, https://github.com/Vchitect/VBench"
SAMPLES, FLICKER_SAMPLES = 5, 25
FIELDS = {"prompt_en", "dimension", "auxiliary_info"}
DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "temporal_flickering",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
    "object_class",
    "multiple_objects",
    "human_action",
    "color",
    "spatial_relationship",
    "scene",
    "appearance_style",
    "temporal_style",
    "overall_consistency",
)


def load(path: Path) -> list[Prompt]:
    """The prompts of the file, or of the folder that holds it.

    metadata: auxiliary_info (ground truth by dimension, as the file has it) and entries (their numbers in the file).
    Raises GokuError with file and line where an entry is not of the format.
    """
    place = path / FILE if path.is_dir() else path
    known: dict[str, dict[str, Any]] = {}
    for number, (line, entry) in enumerate(json_list(place)):
        check_entry(place, line, entry, DIMENSIONS)
        found = known.setdefault(entry["prompt_en"], {"dimensions": [], "truth": {}, "entries": []})
        if repeated := set(found["dimensions"]) & set(entry["dimension"]):
            wrong(place, line, f"this prompt has been given for {sorted(repeated)[0]} before")
        found["dimensions"] += entry["dimension"]
        found["truth"] |= entry.get("auxiliary_info", {})
        found["entries"].append(number)
    return [
        Prompt(
            f"vbench-{found['entries'][0]:05d}",
            text,
            "",
            tuple(found["dimensions"]),
            {"auxiliary_info": found["truth"], "entries": found["entries"]},
        )
        for text, found in known.items()
    ]


def per_prompt(prompt: Prompt) -> int:
    """Five clips; 25 for temporal_flickering, of which the first five that pass the static filter count.

    Clips that have been filtered elsewhere are five as well: plan such an evaluation with five of each.
    """
    return FLICKER_SAMPLES if "temporal_flickering" in prompt.dimensions else SAMPLES


def check_entry(place: Path, line: int, entry: dict[str, Any], dimensions: tuple[str, ...]) -> None:
    """Raises GokuError with file and line where the entry lacks something or names an unknown dimension."""
    if unknown := sorted(set(entry) - FIELDS):
        wrong(place, line, f"unknown field {unknown[0]!r}; allowed: {', '.join(sorted(FIELDS))}")
    if not isinstance(entry.get("prompt_en"), str) or not entry["prompt_en"].strip():
        wrong(place, line, "prompt_en must be text")
    named = entry.get("dimension")
    if not isinstance(named, list) or not named:
        wrong(place, line, "dimension must be a list of at least one name")
    for dimension in named:
        if dimension not in dimensions:
            wrong(place, line, f"unknown dimension {dimension!r}; known: {', '.join(dimensions)}")
