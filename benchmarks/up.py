"""Seconds until `goku up` has everything healthy, the memory it takes, and what saying it again costs.

Measures the claim: both servers, a worker and all deployments healthy in under 60 s on two cores, from nothing. Sides: the
first `goku up` of a workspace (new databases), `goku up` where all is up, `goku down`, and `goku up` on the databases of
before. The limit beside it: Prefect's server alone, started by its own command on a new database, until it is healthy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from benchmarks.orchestration import ROOT, free_port, goku

CLAIM = "goku up: both servers, a worker and all deployments healthy, from nothing, in under 60 s"
LIMIT = 300.0  # s


def main(arguments: list[str] | None = None) -> Result:
    options = settle(parser("up", __doc__).parse_args(arguments))
    result = Result("up", CLAIM, options)
    for repeat in range(options.repeats or 1):
        result.say(f"repeat {repeat + 1}")
        with tempfile.TemporaryDirectory(prefix="goku-up-") as folder:
            _measure(result, Path(folder))
    result.finish()
    return result


def _measure(result: Result, folder: Path) -> None:
    place = folder / "w"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(place)], check=True)
    first = [
        "up",
        "--json",
        "--timeout",
        str(LIMIT),
        "--prefect-port",
        str(free_port()),
        "--mlflow-port",
        str(free_port()),
    ]
    try:
        seconds, told = _timed(first, place)
        row = {"case": "from nothing", "side": "goku up", "median_s": seconds, "seconds": [seconds]}
        result.rows.append(row | {"memory_mb": told["memory"] / 1e6, "deployments": told["registered"]})
        for case, words in (
            ("all up", ["up", "--json"]),
            ("stop", ["down"]),
            ("databases of before", ["up", "--json"]),
        ):
            seconds, told = _timed(words, place)
            memory = {"memory_mb": told["memory"] / 1e6} if told else {}
            side = f"goku {words[0]}"
            result.rows.append({"case": case, "side": side, "median_s": seconds, "seconds": [seconds]} | memory)
    finally:
        _timed(["down"], place)
    alone = _server_alone(folder)
    result.rows.append(
        {"case": "from nothing", "side": "Prefect's server alone", "median_s": alone, "seconds": [alone]}
    )


def _timed(words: list[str], place: Path) -> tuple[float, dict]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")}
    start = time.monotonic()
    done = subprocess.run([*goku(), *words], cwd=place, env=kept | {"PYTHONPATH": str(place)}, check=False,
                          capture_output=True, text=True)  # fmt: skip
    seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"goku {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return seconds, json.loads(done.stdout) if "--json" in words else {}


def _server_alone(folder: Path) -> float:
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    surroundings = kept | {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    start = time.monotonic()
    server = subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        while time.monotonic() - start < LIMIT:
            try:
                with opener.open(f"http://127.0.0.1:{port}/api/health", timeout=5):
                    return time.monotonic() - start
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise SystemExit(f"Prefect's server was not healthy in {LIMIT:.0f} s.")
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
