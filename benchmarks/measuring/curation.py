"""Curation as a process of its own, for measuring: python -m benchmarks.measuring.curation WORKSPACE [--first]

Without --first the whole stage runs on data/raw.parquet of the workspace. With it, the process ends when the first file has
been surveyed: its clips are scored.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(workspace: Path, first: bool) -> None:
    if not first:
        from goku_core.curate import Request, run
        from goku_core.pipeline.context import Context

        run(Request(), Context(workspace, workspace / "staging", workspace / "scratch"))
        return
    import pyarrow.parquet as pq

    from goku_core.curate import Request
    from goku_core.pipeline.pool import run_operator

    raw = pq.read_table(workspace / "data/raw.parquet", columns=["media_id", "uri", "kind"])
    settings = {"request": Request().model_dump(mode="json"), "workspace": str(workspace)}
    settings["transcoded"] = str(workspace / "transcoded")
    rows = run_operator("goku_core.curate.survey:survey", raw.slice(0, 1), settings, workers=1).table.to_pylist()
    scored = [row for row in rows if row["outcome"] == "kept" and row["sharpness"] is not None]
    print(f"{len(scored)} clips scored")
    if not scored:
        raise SystemExit(f"no clip was scored: {rows[0]['message']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--first" in sys.argv[2:])
