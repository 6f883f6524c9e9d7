"""The scores of the line as artifacts beside the run: a table with intervals, and a few pictures with their verdicts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

EVALUATION = "reports/evaluation"


def show_scores(workspace: Path) -> None:
    """Artifacts of a finished `evaluate`."""
    from goku_core.evaluate.page.figures import examples, score_rows

    folder = workspace / EVALUATION
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    described = (
        f"Scores with 95 % intervals over prompts. {summary['protocol']}, judged by {summary['judge']['fingerprint']}."
    )
    create_table_artifact(score_rows(summary), key="evaluate-scores", description=described)
    create_markdown_artifact(pictures(examples(summary, folder)), key="evaluate-pictures")


def pictures(shown: list[dict[str, Any]]) -> str:
    """Markdown with the pictures inside; prompts and reasons are data, so what could be markup is spelled out."""
    lines = ["| | asked for | verdict |", "|---|---|---|"]
    for one in shown:
        picture = base64.b64encode(one["file"].read_bytes()).decode()
        verdict = "right" if one["right"] else f"wrong: {plain(one['reason'])}"
        lines.append(f"| ![sample](data:image/png;base64,{picture}) | {plain(one['prompt'])} | {verdict} |")
    return "\n".join(lines)


def plain(text: str) -> str:
    """No cell, link or element of Markdown or HTML can begin in it."""
    for mark, said in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "/"), ("\n", " "), ("[", "("), ("]", ")")):
        text = text.replace(mark, said)
    return text.replace("`", "'").replace("*", "∗").replace("_", "\\_")
