"""The mirror on a tracking server: there the bundle travels as artifact; a server takes no path of its caller."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from promote_workspace import candidate, promoted

from goku_core.promote import bundle, registry, signature


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"),
            *("--artifacts-destination", str(tmp_path / "served")),
        ],
        env=os.environ | quiet,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(f"{url}/health", process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended before it answered"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError("the server did not answer within 120 s")


@pytest.mark.platform
def test_bundle_travels_as_artifact(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    candidate(workspace, 1.0, 0.6)
    digest = promoted(workspace).digest
    promoted(workspace)
    assert registry.disagreements(workspace, "goku", "champion") == []
    client = registry._client(workspace)
    version = client.get_model_version_by_alias("goku", "champion")
    assert len(client.search_model_versions("name = 'goku'")) == 1
    fetched = Path(client.download_artifacts(version.run_id, "model", str(tmp_path)))
    bundle.verify(fetched / "bundle", digest)
    assert not (fetched / "bundle/signature.json").exists()

    # a signature and a decision that come later travel too
    monkeypatch.setenv(signature.VARIABLE, str(tmp_path / "key.pem"))
    public = signature.keygen(tmp_path / "key.pem")
    signer = signature.signer()
    assert signer is not None
    signature.sign(workspace, digest, signer)
    registry.mirror(workspace, "goku", "champion")
    again = Path(client.download_artifacts(version.run_id, "model", str(tmp_path / "again")))
    assert signature.check(again / "bundle", digest, [public])
    assert public in (again / "MODEL_CARD.md").read_text()
    assert client.get_model_version_by_alias("goku", "champion").tags["goku.signed_by"] == public
