"""What it costs to ask whether everything has been done: `dvc repro`, `goku run` and the bare line, nothing to do.

Measures the claim: `dvc repro` with nothing changed takes at most 10 s. The sides are whole processes as a person starts
them, one after the other in the same workspace, whose line must be finished (--workspace: a folder with params.yaml,
dvc.yaml and all work done; with --small one is made, of the first stage alone).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from goku_core.pipeline.errors import GokuError

CLAIM = "Nothing to do: dvc repro, goku run without a server, and goku run --no-flow; at most 10 s for dvc repro"
ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 10.0


def main(arguments: list[str] | None = None) -> Result:
    options = parser("repro", __doc__)
    options.add_argument("--workspace", type=Path, default=Path(), help="finished line [here]; it is not changed")
    options = settle(options.parse_args(arguments))
    result = Result("repro", CLAIM, options)
    with tempfile.TemporaryDirectory() as scratch:
        if options.small:
            _measure(result, _one_stage(Path(scratch) / "line"), ["collect"])
        else:
            _measure(result, options.workspace.resolve(), [])
    options.workspace = options.workspace.name
    result.finish()
    return result


def _measure(result: Result, place: Path, cells: list[str]) -> None:
    goku = [sys.executable, "-m", "goku_core.cli"]
    planned = json.loads(_run([*goku, "plan", *cells, "--json"], place))["cells"]
    if any(cell["state"] != "done" for cell in planned):
        raise GokuError(f"{place}: there is work to do, so nothing could be measured. Finish it: goku run")
    sides = {
        "dvc repro": [sys.executable, "-m", "dvc", "repro", *cells],
        "goku run, no server": [*goku, "run", *cells],
        "goku run --no-flow": [*goku, "run", *cells, "--no-flow"],
    }
    calls = {name: lambda command=command: _run(command, place) for name, command in sides.items()}
    repeats = result.options.repeats or (1 if result.options.small else 5)
    pairs = [("dvc repro", "goku run --no-flow"), ("goku run, no server", "goku run --no-flow")]
    files = sum(file.is_file() for name in ("data", "models", "reports") for file in (place / name).rglob("*"))
    # The first `dvc repro` takes over what others did; it is the warm-up.
    result.measure(f"{files} files of outputs", calls, pairs, repeats=repeats, warmup=1)
    median = next(row["median_s"] for row in result.rows if row["side"] == "dvc repro")
    result.note(
        f"dvc repro: {median:.1f} s, at most {LIMIT_S:.0f} s are claimed: {'kept' if median <= LIMIT_S else 'NOT kept'}"
    )


def _run(command: list[str], place: Path) -> str:
    """Standard output. Raises `GokuError` with the process's words where its exit code is not 0."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    bin_folder = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    hidden = {"PREFECT_API_URL", "MLFLOW_TRACKING_URI"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    kept |= {"PYTHONSAFEPATH": "1"}  # a workspace may be a clone: this code is measured, not the one that lies there
    environment = kept | {"PYTHONPATH": path, "PATH": bin_folder, "DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GokuError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


def _one_stage(place: Path) -> Path:
    """A new work tree in which the sample corpus, of one clip and two pictures, is there."""
    place.mkdir()
    params = yaml.safe_load((ROOT / "params/smoke.yaml").read_text(encoding="utf-8"))
    params["collect"]["sample"] |= {"videos": 1, "images": 2, "shots_per_video": [1, 1], "bad_files": False}
    (place / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    for name in ("dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config"):
        (place / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    _run(["git", "init", "-q", "."], place)
    _run([sys.executable, "-m", "goku_core.cli", "run", "collect", "--no-flow"], place)
    return place


if __name__ == "__main__":
    main()
