"""After `evaluate` the flow's run shows a table of scores and a few pictures."""

from __future__ import annotations

import json
from pathlib import Path

from finished_line import finished_line


def test_scores_and_pictures_lie_beside_the_run(tmp_path: Path, prefect_server: None) -> None:
    from prefect import flow
    from prefect.artifacts import Artifact

    from flows.pictures import show

    workspace = finished_line(tmp_path, curation=False)

    @flow
    def evaluated() -> None:
        show("evaluate", workspace)

    evaluated()
    table = Artifact.get("evaluate-scores")
    summary = json.loads((workspace / "reports/evaluation/summary.json").read_text())
    scores = {f"{row['benchmark']}/{row['line']}": row["score"] for row in json.loads(table.data)}
    assert scores["geneval/overall"] == f"{summary['overall']['score']:.3f}"
    clips = sum(len(found) - 1 for found in summary["clips"].values())  # all but their count
    assert summary["protocol"] in table.description and len(scores) == len(summary["tasks"]) + 1 + clips
    assert Artifact.get("evaluate-pictures").data.count("data:image/png;base64,") == 8
