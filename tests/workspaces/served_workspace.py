"""A workspace with servers of its own: the smoke parameters with a first cell of seconds, free ports, and a caller."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# What a shell may hold and the servers of a test must not see.
FOREIGN = ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_SERVER_API_AUTH_STRING", "MLFLOW_TRACKING_URI", "GOKU_SERVICES")


def small_workspace(place: Path) -> Path:
    """The smoke parameters with a sample corpus of one clip and two pictures."""
    params = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    params["collect"]["sample"] |= {"videos": 1, "images": 2, "shots_per_video": [1, 1], "bad_files": False}
    place.mkdir(parents=True)
    (place / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(url: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    request = urllib.request.Request(url, headers={"Content-Type": "application/json"}, method=method)
    request.data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@dataclass
class Place:
    """A workspace and the addresses its servers are to have."""

    folder: Path
    prefect_port: int = field(default_factory=free_port)
    mlflow_port: int = field(default_factory=free_port)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.prefect_port}/api"

    def command(self, *words: str) -> list[str]:
        """The ports are named the first time; from then on they are remembered."""
        ports = ["--prefect-port", str(self.prefect_port), "--mlflow-port", str(self.mlflow_port)]
        first = words[0] == "up" and not (self.folder / ".goku/services/ports.json").exists()
        return [sys.executable, "-m", "goku_core.cli", *words, *(ports if first else [])]

    def environment(self, **variables: str) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        return kept | {"PYTHONPATH": path} | variables

    def goku(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def prefect(self, *words: str) -> str:
        """What the engine's own command prints, as one says it who knows the password."""
        place = {"PREFECT_API_URL": self.api, "PREFECT_API_AUTH_STRING": "goku:planted"}
        place |= {"PREFECT_HOME": str(self.folder / ".goku/prefect")}
        command = [sys.executable, "-m", "prefect", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(**place), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def told(self, *words: str) -> Any:
        """The JSON that a command prints."""
        done = self.goku(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def services(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.told("status", "--services")["services"]}

    def run(self, deployment: str, parameters: dict[str, Any], seconds: float = 120.0) -> dict[str, Any]:
        """A run of a deployment, asked for over HTTP as any caller would; its facts once it has ended."""
        _, found = call(f"{self.api}/deployments/name/{deployment}")
        deadline = time.monotonic() + seconds
        status = 503  # the server on SQLite, when two write at once: its own client asks again as well
        while status == 503 and time.monotonic() < deadline:
            status, run = call(f"{self.api}/deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        assert status == 201, run
        while run["state_type"] not in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            assert time.monotonic() < deadline, f"the run is still {run['state_name']}"
            time.sleep(0.5)
            run = call(f"{self.api}/flow_runs/{run['id']}")[1]
        return run


@dataclass
class Begun(Place):
    """answers: what two `goku up`, started at the same moment, said."""

    answers: list[dict[str, Any]] = field(default_factory=list)
