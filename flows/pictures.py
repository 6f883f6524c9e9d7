"""What a stage wrote, as artifacts beside the run: the funnel of curation as a table, a few frames of what it saw."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.approval import announce
from flows.scores import show_scores

CURATION = "reports/curation"
FRAMES, FRAME_BYTES = 8, 64_000  # artifacts live in Prefect's database: small pictures, and few


def show(cell: str, workspace: Path) -> None:
    """Artifacts of one finished cell; those that have nothing to look at get none."""
    if cell == "curate":
        summary = json.loads((workspace / CURATION / "funnel.json").read_text(encoding="utf-8"))
        create_table_artifact(funnel(summary), key="curate-funnel", description="What came in, what stayed, and why.")
        create_markdown_artifact(frames(summary, workspace / CURATION), key="curate-frames")
    elif cell == "evaluate":
        show_scores(workspace)
    elif cell == "promote":
        announce(workspace)


def funnel(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per way out, in the order of the filters; in = kept + rejected + failed."""
    total = summary["total"]
    ways = [{"step": way["filter"], "outcome": way["outcome"], "rows": way["count"]} for way in summary["why"]]
    return [
        {"step": "candidates", "outcome": "in", "rows": total["in"]},
        *ways,
        {"step": "kept", "outcome": "kept", "rows": total["kept"]},
    ]


def frames(summary: dict[str, Any], folder: Path) -> str:
    """Markdown with a frame of each group (kept, and one per filter) and the reason; the pictures are inside."""
    lines, groups = ["| | what | why |", "|---|---|---|"], set()
    for example in summary["examples"]:
        group = (example["outcome"], example["filter"])
        file = folder / example["file"]
        if len(groups) == FRAMES or group in groups or file.suffix != ".jpg" or file.stat().st_size > FRAME_BYTES:
            continue
        groups.add(group)
        picture = base64.b64encode(file.read_bytes()).decode()
        why = (example["message"] or example["caption"] or "").replace("|", "/").replace("\n", " ")
        what = " ".join(word for word in group if word)
        lines.append(f"| ![{what}](data:image/jpeg;base64,{picture}) | {what} | {why} |")
    return "\n".join(lines)
