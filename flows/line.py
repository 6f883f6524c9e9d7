"""The flow of the whole line, or of chosen cells: `python -m flows.line [CELL...]` (what `goku run` starts)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from prefect import flow

from flows.answers import answered
from flows.approval import decide
from flows.cells import run_cells
from flows.forms import Changes, inside
from goku_core.changes import read_changes
from goku_core.pipeline.errors import GokuError, StageFailed


@flow(name="line", flow_run_name="line")
def line(
    cells: list[str] | None = None, strict: bool = False, workspace: str = ".", changes: Changes = None
) -> list[dict[str, Any]]:
    """Run the line of params.yaml; finished work is not repeated.

    Args:
        cells: stages or cells (train@joint_low); none: all.
        strict: work done by other code does not count as done.
        workspace: folder that holds params.yaml.
        changes: other values than params.yaml has, for this run alone.
    """
    if answered(inside(workspace)):
        return []
    outcomes = run_cells(cells or [], workspace, strict, changes)
    if outcomes[-1]["cell"] == "promote":
        decide(inside(workspace))
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the line as a Prefect flow.")
    parser.add_argument("cells", nargs="*", help="stages or cells; none: the whole line")
    parser.add_argument("--strict", action="store_true", help="work done by other code does not count as done")
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    parser.add_argument("--changes", type=Path, help="JSON of other values than params.yaml has, for this run alone")
    given = parser.parse_args()
    try:
        outcomes = line(given.cells, given.strict, changes=read_changes(given.changes) if given.changes else None)
    except GokuError as error:
        if given.json and isinstance(error, StageFailed):
            print(json.dumps(error.as_json()))
        print(error, file=sys.stderr)
        return 1 if isinstance(error, StageFailed) else 2
    if given.json:
        print(json.dumps(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
