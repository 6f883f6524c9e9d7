"""VBench-2.0 (arXiv:2503.21755): VBench2_full_info.json. Each entry has one dimension and clips of its own.

A prompt that several dimensions ask for stands in the file once per dimension, and the benchmark keeps a folder of clips per
dimension: entries are kept apart by number, 1230 of them.
"""

from __future__ import annotations

from pathlib import Path

from goku_core.evaluate.manifest import Prompt
from goku_core.evaluate.suites.reading import json_list
from goku_core.evaluate.suites.vbench import check_entry

MEDIA = "video"
FILE = "VBench2_full_info.json"
FILES, EXTRA = (FILE,), ()
PUBLISHED = {FILE: "115e54e02ffbeee118ffe598fb497e9a4e40232a4ac4e0a3fd4e33867590a272"}
LICENCE = "Apache-2.0"
NOTICE = "VBench-2.0 prompts, https://github.com/Vchitect/VBench"
SAMPLES, DIVERSITY_SAMPLES = 3, 20
DIMENSIONS = (
    "Camera_Motion",
    "Complex_Landscape",
    "Complex_Plot",
    "Composition",
    "Diversity",
    "Dynamic_Attribute",
    "Dynamic_Spatial_Relationship",
    "Human_Anatomy",
    "Human_Clothes",
    "Human_Identity",
    "Human_Interaction",
    "Instance_Preservation",
    "Material",
    "Mechanics",
    "Motion_Order_Understanding",
    "Motion_Rationality",
    "Multi-View_Consistency",
    "Thermotics",
)


def load(path: Path) -> list[Prompt]:
    """The entries of the file, or of the folder that holds it; metadata: auxiliary_info as the file has it.

    Raises GokuError with file and line where an entry is not of the format.
    """
    place = path / FILE if path.is_dir() else path
    prompts = []
    for number, (line, entry) in enumerate(json_list(place)):
        check_entry(place, line, entry, DIMENSIONS)
        known = {"auxiliary_info": entry["auxiliary_info"]} if "auxiliary_info" in entry else {}
        prompts.append(Prompt(f"vbench2-{number:05d}", entry["prompt_en"], "", tuple(entry["dimension"]), known))
    return prompts


def per_prompt(prompt: Prompt) -> int:
    """Three clips; twenty for Diversity, which compares them with one another."""
    return DIVERSITY_SAMPLES if "Diversity" in prompt.dimensions else SAMPLES
