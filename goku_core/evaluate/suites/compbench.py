"""T2I-CompBench and T2I-CompBench++ (arXiv:2307.06350): one text file per category, a prompt per line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goku_core.evaluate.benchmarks.compbench import KINDS as SCORERS_OF
from goku_core.evaluate.manifest import Prompt
from goku_core.evaluate.suites.reading import prompts_of, wrong
from goku_core.pipeline.errors import GokuError

MEDIA = "image"
CATEGORIES = ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")
KINDS = ("spatial", "action", "spatialaction")
FILES = tuple(f"{category}_val.txt" for category in CATEGORIES)
KIND_FILES = {kind: f"complex_val_{kind}.txt" for kind in KINDS}
OBJECTS = "new_objects.txt"
EXTRA = (*KIND_FILES.values(), OBJECTS)
PUBLISHED = {
    "color_val.txt": "1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d",
    "shape_val.txt": "37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae",
    "texture_val.txt": "fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f",
    "spatial_val.txt": "8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988",
    "3d_spatial_val.txt": "c9953597315f36a5fcb41291bb19bdc6ab5f64a0fa760d691b4854a73f5d1fe9",
    "numeracy_val.txt": "dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe",
    "non_spatial_val.txt": "04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d",
    "complex_val.txt": "1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4",
    "complex_val_spatial.txt": "6c7ac0ab75c7c9080cfc7b421fb059b9b0febb98471707aeedf58771088abc02",
    "complex_val_action.txt": "d49ee4c7f99e3f3379fb8704a54ff5288b83bb412971edf616a4721c2473308e",
    "complex_val_spatialaction.txt": "e02ddc7fed812e6577e7386ec2137ce0a994a5ce19771661f68df7ac349a6ca9",
    OBJECTS: "f39a3d2ff6067d7738673cbf465dc659ccc750776162989a5d9916f1d5f3e231",
}
LICENCE = "MIT"
NOTICE = "T2I-CompBench prompts, https://github.com/Karine-Huang/T2I-CompBench"
SAMPLES = 10


def load(path: Path) -> list[Prompt]:
    """The prompts of the folder's categories, or of the one file of a category; task: the category.

    metadata: row (number of the prompt in its file, from 0), and for complex prompts kind ("spatial", "action" or
    "spatialaction") where the folder holds the lists of kinds; their dimensions are then the scores that are averaged.
    Categories whose file is not there are left out; numbers of prompts follow the order of `CATEGORIES`.
    Raises GokuError where there is no category at all, or with file and line what is wrong.
    """
    places = [path / name for name in FILES if (path / name).is_file()] if path.is_dir() else [path]
    if not places:
        raise GokuError(f"{path}: none of {', '.join(FILES)} is there")
    prompts: list[Prompt] = []
    for place in places:
        if place.name not in FILES:
            raise GokuError(f"{place}: the name says the category, and must be one of {', '.join(FILES)}")
        category = CATEGORIES[FILES.index(place.name)]
        kinds = _kinds(place.parent) if category == "complex" else {}
        for row, text in enumerate(prompts_of(place)):
            known: dict[str, Any] = {"row": row}
            if kinds:
                if text.strip() not in kinds:
                    wrong(place, row + 1, f"this prompt is in none of {', '.join(KIND_FILES.values())}")
                known["kind"] = kinds[text.strip()]
            asked = SCORERS_OF[known["kind"]] if kinds else (category,)
            prompts.append(Prompt(f"compbench-{len(prompts):05d}", text, category, asked, known))
    return prompts


def per_prompt(prompt: Prompt) -> int:
    """Ten pictures of every prompt."""
    return SAMPLES


def _kinds(folder: Path) -> dict[str, str]:
    """Kind by prompt; {} where no list is there. All three lists or none: a missing one would leave prompts without a rule."""
    places = {kind: folder / name for kind, name in KIND_FILES.items()}
    there = [kind for kind, place in places.items() if place.is_file()]
    if not there:
        return {}
    if len(there) < len(places):
        lacking = next(place for kind, place in places.items() if kind not in there)
        raise GokuError(f"{lacking} is missing: the lists of complex prompts by kind belong together")
    return {text.strip(): kind for kind, place in places.items() for text in prompts_of(place)}
