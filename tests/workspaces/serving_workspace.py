"""A workspace whose champion draws, and `goku serve` in it as a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import torch
from drawing_workspace import promotion
from safetensors.torch import load_file, save_file

from goku_core.promote import bundle, ledger

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "a red circle left of a blue square"
FOREIGN = ("GOKU_SERVE_TOKEN", "GOKU_C2PA_CERTIFICATE", "GOKU_C2PA_KEY")


def second_bundle(root: Path) -> str:
    """Another model in the store, not in the ledger yet: the first one's with other weights. Returns its digest."""
    for phase in ("first", "i2v"):
        target = shutil.copytree(root / "models" / phase, root / "models" / f"{phase}-2")
        noise = torch.Generator().manual_seed(1)
        tensors = load_file(target / "model.safetensors")
        save_file(
            {k: v + 0.1 * torch.randn(v.shape, generator=noise) for k, v in tensors.items()},
            target / "model.safetensors",
        )
    models = {"t2i": root / "models/first-2", "t2v": root / "models/first-2", "i2v": root / "models/i2v-2"}
    return bundle.build(root, root / "partial", models, root / "models/vae", {"phases": ["second"]})


def enter(root: Path, digest: str, decision: str = "promoted", standing: str | None = None) -> None:
    """Put a decision about a bundle into the ledger, as `goku promote` and `goku rollback` do."""
    drafted = promotion(digest).model_copy(update={"decision": decision, "champion": standing or digest})
    assert ledger.append(root, lambda entries: drafted) is not None


class Service:
    """`goku serve` with options, from its first sign of life; killed at the end where it still lives."""

    def __init__(self, root: Path, *options: str, ready: bool = True, page: bool = False, **variables: str) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.log = root / "serve.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "goku_core.cli",
                    "serve",
                    "--port",
                    "0",
                    "--json",
                    *([] if page else ["--no-page"]),
                    *options,
                ],
                cwd=root,
                env=kept | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | variables,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.url = json.loads(line)["url"]
        token = variables.get("GOKU_SERVE_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False)
        if ready:
            self.until(lambda: self.client.get("/readyz").status_code == 200, "not ready")

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def until(self, holds: Any, otherwise: str, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{otherwise}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def order(self, wait: float | None = None, **order: Any) -> httpx.Response:
        return self.client.post(
            "/v1/generations", json={"prompt": PROMPT, **order}, params={"wait": wait} if wait else None
        )

    def taken(self, **order: Any) -> dict[str, Any]:
        answer = self.order(**order)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def drawn(self, **order: Any) -> dict[str, Any]:
        answer = self.order(wait=120, **order)
        assert answer.status_code == 200 and answer.json()["state"] == "done", answer.text
        return answer.json()

    def ticket(self, id: str, wait: float | None = None) -> dict[str, Any]:
        answer = self.client.get(f"/v1/generations/{id}", params={"wait": wait} if wait else None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def running(self, id: str) -> None:
        """Waits until the order is being drawn."""
        self.until(lambda: self.ticket(id)["state"] != "queued", "it never began")
        assert self.ticket(id)["state"] == "running", self.ticket(id)

    def content(self, id: str) -> bytes:
        answer = self.client.get(f"/v1/generations/{id}/file")
        assert answer.status_code == 200, answer.text
        return answer.content

    def worker(self) -> int:
        """The process that holds the models."""
        found = subprocess.run(
            ["ps", "--ppid", str(self.process.pid), "-o", "pid=,args="], capture_output=True, text=True, check=True
        )
        (line,) = [line for line in found.stdout.splitlines() if "goku_core.serve.worker" in line]
        return int(line.split()[0])

    def end(self, with_signal: int = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        return self.process.wait(timeout=120)


__all__ = ["PROMPT", "Service", "enter", "second_bundle"]
