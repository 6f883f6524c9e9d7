"""Seconds of the whole line under Prefect, DVC and MLflow, against bare calls of its stages: what each engine costs.

Measures the claim: at most 5 % of the default line. Each side runs the whole line from nothing in a workspace of its own:
bare      the stages' `run` one after the other in one process: no record, no store, no engine
platform  the same through `execute`: fingerprints, the content store, records, lineage
mlflow    `goku run --no-flow`: tracking besides
dvc       `dvc repro`: a process for each cell besides, and DVC's hashes and lock
prefect   `goku run` on a server and under a flow, a process for each cell
An engine's share is what its side takes beyond the side it adds to (mlflow beyond platform; dvc and prefect beyond mlflow),
in parts of the bare line. Prefect's server is up before (`goku bench up` measures its start). Without options the demo's
parameters are run (an hour on two cores); --quick takes the smoke parameters, whose stages work for seconds: there the
seconds of an engine mean something and their share does not, so it is also given as a share of --line seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result

CLAIM = "The whole line under Prefect, DVC and MLflow: at most 5 % beyond bare calls of the stages"
ROOT = Path(__file__).resolve().parents[1]
ADDED = {"platform": "bare", "mlflow": "platform", "dvc": "mlflow", "prefect": "mlflow"}
BARE = """
import importlib, sys
from pathlib import Path
from goku_core import config
from goku_core.pipeline import line
from goku_core.pipeline.context import Context
place = Path.cwd()
for cell in line.cells(config.load_params()):
    scratch = place / ".goku" / "scratch" / cell.name
    scratch.mkdir(parents=True)
    importlib.import_module(cell.module).run(cell.request, Context(place, place, scratch, cell.name, cell.seed))
"""
PLATFORM = """
from pathlib import Path
from goku_core import config
from goku_core.pipeline import line
from goku_core.pipeline.executor import execute
for cell in line.cells(config.load_params()):
    execute(cell, Path.cwd())
"""


def main(arguments: list[str] | None = None) -> Result:
    options = parser("orchestration", __doc__)
    options.add_argument("--line", type=float, default=602.0, help="seconds of the default line, for --quick [602]")
    options.add_argument("--sides", nargs="+", choices=("bare", *ADDED), default=["bare", *ADDED], help="[all]")
    options = settle(options.parse_args(arguments))
    if options.small or options.quick:
        options.preset = "smoke"
    else:
        options.preset = "nano"
    result = Result("orchestration", CLAIM, options)
    calls: dict[str, Callable[[Path], float]] = {
        "bare": lambda place: _timed([sys.executable, "-c", BARE], place),
        "platform": lambda place: _timed([sys.executable, "-c", PLATFORM], place),
        "mlflow": lambda place: _timed([*goku(), "run", "--no-flow"], place),
        "dvc": lambda place: _timed([*_engine("dvc"), "repro"], place),
        "prefect": _under_prefect,
    }
    took: dict[str, list[float]] = {side: [] for side in options.sides}
    for repeat in range(options.repeats or 1):
        for side in options.sides:
            result.say(f"{side}, repeat {repeat + 1}")
            with tempfile.TemporaryDirectory(prefix=f"goku-{side}-") as folder:
                place = _workspace(Path(folder) / "w", options)
                took[side].append(calls[side](place))
    _report(result, took)
    result.finish()
    return result


def _report(result: Result, took: dict[str, list[float]]) -> None:
    best = {side: min(seconds) for side, seconds in took.items()}
    for side, seconds in took.items():
        row: dict[str, object] = {
            "case": result.options.preset,
            "side": side,
            "median_s": best[side],
            "seconds": seconds,
        }
        before = ADDED.get(side)
        if before in best and "bare" in best:
            added = best[side] - best[before]
            row |= {"beyond": before, "added_s": added, "percent_of_bare": 100 * added / best["bare"]}
            if result.options.preset != "nano":
                row["percent_of_default_line"] = 100 * added / result.options.line
        result.rows.append(row)
    for driver in ("dvc", "prefect"):
        if {driver, "bare"} <= best.keys():
            ratio = best["bare"] / best[driver]
            result.ratios.append({"case": result.options.preset, "side": driver, "against": "bare", "ratio": ratio,
                                  "low": ratio, "high": ratio, "repeats": len(took[driver])})  # fmt: skip
    result.note("median_s is the least of the repeats: what else the machine does only adds")


def _workspace(place: Path, options: argparse.Namespace) -> Path:
    """A clone with the parameters of the preset, as a user has it."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(place)], check=True)
    (place / "params.yaml").write_bytes((ROOT / "params" / f"{options.preset}.yaml").read_bytes())
    return place


def _under_prefect(place: Path) -> float:
    ports = [str(free_port()), str(free_port())]
    up = [*goku(), "up", "--prefect-port", ports[0], "--mlflow-port", ports[1], "--timeout", "300"]
    _timed(up, place)
    try:
        return _timed([*goku(), "run"], place)
    finally:
        _timed([*goku(), "down", "--grace", "5"], place)


def _timed(command: list[str], place: Path) -> float:
    kept = {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")}
    quiet = {"PYTHONPATH": str(place), "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
    quiet["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    start = time.monotonic()
    done = subprocess.run(command, cwd=place, env=kept | quiet, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command[:4])} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return time.monotonic() - start


def goku() -> list[str]:
    return [sys.executable, "-m", "goku_core.cli"]


def _engine(name: str) -> list[str]:
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise SystemExit(f"{name} is not installed here: make install")
    return [found]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
