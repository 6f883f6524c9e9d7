"""Where the time of a training phase went, as an artifact beside the run."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_table_artifact

PARTS = ("productive", "lost", "data", "checkpoint", "start", "idle")


def show_goodput(cell: str, report: dict[str, Any]) -> None:
    """A table of one phase's goodput; other cells report none."""
    if not (spent := report.get("goodput")):
        return
    phase = cell.rpartition("@")[2].replace("_", "-")
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
