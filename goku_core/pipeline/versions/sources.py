"""What stages read that no stage has made: a person's own media, a bucket's listing, pretrained weights.

DVC cannot depend on it (a folder may lie outside of the work tree, or have a name of a hub), so the first stage of
dvc.yaml writes its digests, and the stages depend on those. Beside them, why a cell's last answer no longer stands: that
stays as it is once the cell has answered again, so that DVC runs the stage once for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.executor import weights_trees
from goku_core.pipeline.files import write_json
from goku_core.pipeline.line import Cell
from goku_core.pipeline.versions import beside
from goku_core.pipeline.versions.beside import RECORDS

OVERTAKEN = "overtaken"


def source_file(stage: str) -> str:
    return f"{RECORDS}/sources/{stage}.json"


def write(line: Sequence[Cell], workspace: Path) -> dict[str, dict[str, str | None]]:
    """By stage: path -> digest, None where nothing is. Raises `GokuError` where a bucket cannot be asked."""
    made = {path for cell in line for path in cell.outputs}
    found: dict[str, dict[str, str | None]] = {}
    with Workspace(workspace) as place:
        for cell in line:
            trees = {path: cell.content(path, place) for path in cell.inputs if path not in made}
            digests = {path: tree.digest if tree else None for path, tree in trees.items()}
            digests |= {path: tree.digest for path, tree in weights_trees(cell, place).items()}
            if told := _overtaken(cell, place.root):
                digests[OVERTAKEN] = told
            found.setdefault(cell.stage, {}).update(digests)
        for stage, digests in found.items():
            write_json(place.root / source_file(stage), digests)
    return found


def _overtaken(cell: Cell, root: Path) -> str | None:
    record = beside.read(root / beside.record_file(cell.name))
    if record is not None and (now := cell.overtaken(record["report"], root)):
        return now
    try:
        return json.loads((root / source_file(cell.stage)).read_text(encoding="utf-8")).get(OVERTAKEN)
    except (FileNotFoundError, ValueError, AttributeError):
        return None
