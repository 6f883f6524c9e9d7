"""Where the time of a training phase went, as an artifact beside the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect.artifacts import create_table_artifact

from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.line import Cell

PARTS = ("productive", "lost", "data", "checkpoint", "start", "idle")


def show_goodput(cell: Cell, workspace: Path, fingerprint: str) -> None:
    """A table of one phase's goodput, from the record of its work; other cells report none."""
    with Workspace(workspace) as place:
        record = place.record(cell.stage, fingerprint)
    if record is None or not (spent := record.value["report"].get("goodput")):
        return
    phase = cell.name.rpartition("@")[2].replace("_", "-")
    description = (
        f"{spent['share']:.1%} productive, {spent['rank_hours']:.2f} rank-hours, cost {spent['cost']:.2f}, "
        f"{spent['attempts']} attempts, {len(spent['incidents'])} incidents"
    )
    create_table_artifact(rows(spent), key=f"goodput-{phase}", description=description)


def rows(spent: dict[str, Any]) -> list[dict[str, Any]]:
    """Rank-seconds by use, and their shares."""
    total = sum(spent[part] for part in PARTS)
    return [
        {"part": part, "rank-seconds": round(spent[part], 1), "share": round(spent[part] / total, 4) if total else 0.0}
        for part in PARTS
    ]
