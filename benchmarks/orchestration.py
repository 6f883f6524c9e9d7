"""Seconds of the whole line under Prefect, DVC and MLflow, against bare calls of its stages: what each engine costs.

Measures the claim: at most 5 % of the default line. Each side runs the whole line from nothing in a workspace of its own:
bare      the stages' `run` one after the other in one process: no record, no store, no engine
platform  the same through `execute`: fingerprints, the content store, records, lineage
mlflow    `goku run --no-flow`: tracking besides
dvc       `dvc repro`: a process for each cell besides, and DVC's hashes and lock
prefect   `goku run` on a server and under a flow, a process for each cell
An engine's share is what its side takes beyond the side it adds to (mlflow beyond platform; dvc and prefect beyond mlflow),
in parts of the bare line. Beside wall time stands processor time, of servers and workers too, which other programs on the
machine do not change (where the kernel keeps an account: Linux, as root). Prefect's server is up before (`goku bench up`
measures its start). Without options the demo's parameters are run (an hour on two cores); --quick takes the smoke parameters,
whose stages work for seconds: there the seconds of an engine mean something and their share does not, so it is also given as
a share of --line seconds.
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
from typing import NamedTuple

from benchmarks.measuring.account import Account
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


class Spent(NamedTuple):
    """Seconds of a side: on the wall, and of processors (None where nobody counts them)."""

    wall: float
    cpu: float | None


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
    calls: dict[str, Callable[[Path, Account], Spent]] = {
        "bare": lambda place, account: _timed([sys.executable, "-c", BARE], place, account),
        "platform": lambda place, account: _timed([sys.executable, "-c", PLATFORM], place, account),
        "mlflow": lambda place, account: _timed([*goku(), "run", "--no-flow"], place, account),
        "dvc": lambda place, account: _timed([*_engine("dvc"), "repro"], place, account),
        "prefect": _under_prefect,
    }
    took: dict[str, list[Spent]] = {side: [] for side in options.sides}
    for repeat in range(options.repeats or 1):
        for side in options.sides:
            result.say(f"{side}, repeat {repeat + 1}")
            with tempfile.TemporaryDirectory(prefix=f"goku-{side}-") as folder:
                place, account = _workspace(Path(folder) / "w", options), Account()
                took[side].append(calls[side](place, account))
                account.close()
    _report(result, took)
    result.finish()
    return result


def _report(result: Result, took: dict[str, list[Spent]]) -> None:
    wall = {side: min(spent.wall for spent in all_) for side, all_ in took.items()}
    cpu = {side: min(spent.cpu for spent in all_ if spent.cpu is not None) for side, all_ in took.items()
           if any(spent.cpu is not None for spent in all_)}  # fmt: skip
    for side, all_ in took.items():
        seconds = [spent.wall for spent in all_]
        row: dict[str, object] = {
            "case": result.options.preset,
            "side": side,
            "median_s": wall[side],
            "seconds": seconds,
        }
        row |= {"cpu_s": cpu[side]} if side in cpu else {}
        row |= {"beyond": ADDED[side]} if side in ADDED else {}
        for name, least in (("wall", wall), ("cpu", cpu)):
            if {side, ADDED.get(side), "bare"} <= least.keys():
                added = least[side] - least[ADDED[side]]
                row |= {f"added_{name}_s": added, f"{name}_percent_of_bare": 100 * added / least["bare"]}
                if result.options.preset != "nano":
                    row[f"{name}_percent_of_default_line"] = 100 * added / result.options.line
        result.rows.append(row)
    for driver in ("dvc", "prefect"):
        if {driver, "bare"} <= wall.keys():
            ratio = wall["bare"] / wall[driver]
            result.ratios.append({"case": result.options.preset, "side": driver, "against": "bare", "ratio": ratio,
                                  "low": ratio, "high": ratio, "repeats": len(took[driver])})  # fmt: skip
    result.note("median_s and cpu_s are the least of the repeats: what else the machine does only adds")
    if max(result.load_before[0], *os.getloadavg()[:1]) > os.cpu_count():
        result.note(
            "other programs worked beside it: wall times and their ratios say nothing here, processor time does"
        )


def _workspace(place: Path, options: argparse.Namespace) -> Path:
    """A clone with the parameters of the preset, as a user has it."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(place)], check=True)
    (place / "params.yaml").write_bytes((ROOT / "params" / f"{options.preset}.yaml").read_bytes())
    return place


def _under_prefect(place: Path, account: Account) -> Spent:
    ports = [str(free_port()), str(free_port())]
    up = [*goku(), "up", "--prefect-port", ports[0], "--mlflow-port", ports[1], "--timeout", "300"]
    _timed(up, place, account)
    try:
        return _timed([*goku(), "run"], place, account)
    finally:
        _timed([*goku(), "down", "--grace", "5"], place, account)


def _timed(command: list[str], place: Path, account: Account) -> Spent:
    kept = {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")}
    quiet = {"PYTHONPATH": str(place), "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
    quiet["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    before, start = account.seconds(), time.monotonic()
    done = subprocess.run(
        command, cwd=place, env=kept | quiet, check=False, capture_output=True, text=True, preexec_fn=account.enter
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command[:4])} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    after = account.seconds()
    return Spent(time.monotonic() - start, None if before is None or after is None else after - before)


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
