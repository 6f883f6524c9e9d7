"""Processes of our own and those of others; ones that will not end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from served_workspace import ROOT, Place, call, small_workspace

from goku_core.pipeline.errors import GokuError
from goku_core.services import processes, records, servers
from goku_core.services.records import Started

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
PARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {DEAF!r}], start_new_session=True)
time.sleep(600)
"""


def begin(program: str, workspace: Path, name: str = "one") -> processes.Identity:
    environment = os.environ | {processes.MARK: str(workspace.resolve())}
    return processes.start([sys.executable, "-c", program], workspace, environment, workspace / f"{name}.log")


def says_up(log: Path) -> bool:
    return processes.wait(lambda: "up" in log.read_text(), 20)


def test_one_that_does_not_listen_is_killed_and_that_is_said(tmp_path: Path) -> None:
    deaf = begin(DEAF, tmp_path)
    assert says_up(tmp_path / "one.log") and processes.alive(deaf)
    assert processes.stop(deaf, 0.3) == "did not stop within 0 s, killed"
    assert not processes.alive(deaf)
    assert processes.stop(deaf, 0.3) == "was not running"


def test_children_in_sessions_of_their_own_are_found_and_ended(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = begin(DEAF, tmp_path / "other")
    parent = begin(PARENT, tmp_path)
    try:
        assert says_up(tmp_path / "one.log") and says_up(tmp_path / "other/one.log")
        assert processes.memory(tmp_path) > 1e6
        assert processes.stop(parent, 5) == "stopped"
        (child,) = processes.marked(tmp_path)
        assert child.pid != parent.pid
        assert processes.sweep(tmp_path, 0.3, spared=set()) == 1
        assert processes.marked(tmp_path) == []
        assert processes.alive(stranger), "another workspace's process was ended"
    finally:
        os.kill(stranger.pid, signal.SIGKILL)


def test_an_id_that_was_given_to_somebody_else_is_not_ours(tmp_path: Path) -> None:
    """A record from before a restart of the machine, or of an id in its second use: `goku down` must not touch it."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        now = processes.identity(stranger.pid)
        assert now is not None
        place = Place(small_workspace(tmp_path / "w"))
        for who in (replace(now, started=str(int(now.started) - 1)), replace(now, boot="another")):
            log = ".goku/services/worker.log"
            records.write(place.folder, Started("worker", who, "127.0.0.1", 0, "http://127.0.0.1:9", log, ""))
            assert place.told("down")["services"] == {"worker": "was not running"}
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_down_ends_what_serves_a_workspace_whose_records_are_gone(tmp_path: Path) -> None:
    """`rm -rf .goku` under running servers must not leave them to hold the ports for ever."""
    place = Place(small_workspace(tmp_path / "w"))
    left = begin("import time; time.sleep(600)", place.folder)
    assert "1 processes that were left over are ended" in place.goku("down").stdout
    assert not processes.alive(left)


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    place = Place(small_workspace(tmp_path / "w"))
    lock = place.folder / ".goku/services/lock"
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom goku_core.pipeline.files import lock\n"
        f"with lock(Path({str(lock)!r}), owner='goku up'):\n    print('up', flush=True)\n    time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program], env=place.environment(), stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "up\n"
    waiting = subprocess.Popen(
        place.command("down"), cwd=place.folder, env=place.environment(), stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr is not None and "another goku up is at work here" in waiting.stderr.readline()
    holder.kill()
    holder.wait()
    assert waiting.wait(20) == 0


def test_a_port_in_use_is_told_with_its_user(tmp_path: Path) -> None:
    place = Place(small_workspace(tmp_path / "w"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", place.mlflow_port))
        taken.listen()
        refused = place.goku("up")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert (
        f"port {place.mlflow_port}, meant for MLflow's server, is in use by process {os.getpid()} (" in refused.stderr
    )
    assert f"goku up --mlflow-port {place.mlflow_port + 1}" in refused.stderr
    assert processes.marked(place.folder) == [], "something was started before the port was looked at"


def test_an_open_server_without_a_password_is_refused(tmp_path: Path) -> None:
    place = Place(small_workspace(tmp_path / "w"))
    for host in ("0.0.0.0", "::", "192.0.2.7", "some-name"):
        refused = place.goku("up", "--host", host)
        assert refused.returncode == 2 and "PREFECT_SERVER_API_AUTH_STRING" in refused.stderr
        assert "may run code here" in refused.stderr
    assert not (place.folder / ".goku/services").exists()


def test_with_a_password_it_is_not_shown_to_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Command lines are read by every user of the machine, and records by whoever gets the workspace."""
    from goku_core.tracking import Request

    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "goku:planted")
    servers.require_guarded("0.0.0.0")
    server = servers.prefect_server(tmp_path, "0.0.0.0", 4200)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://u:planted@db/x")
    tracker = servers.mlflow_server(tmp_path, Request(), 5000, f"{server.url}/api")
    assert tracker is not None and tracker.host == "127.0.0.1", "MLflow asks nobody: it stays on this machine"
    assert server.url == "http://127.0.0.1:4200" and "0.0.0.0" in server.command
    for service in (server, tracker, servers.worker(tmp_path, server)):
        assert "planted" not in " ".join(service.command) and service.environment["PREFECT_API_AUTH_STRING"]


def test_an_unsafe_engine_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    servers.require_safe_versions()
    for package, old in (("prefect", "3.6.13"), ("mlflow", "3.9.0"), ("mlflow", "2.22.1")):
        with monkeypatch.context() as patch:
            patch.setattr(servers, "version", {"prefect": "3.8.8", "mlflow": "3.17.2", package: old}.__getitem__)
            with pytest.raises(GokuError, match=f"{package} {old} is installed"):
                servers.require_safe_versions()


def test_a_configured_server_is_not_started_a_second_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from goku_core.tracking import Request

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert servers.mlflow_server(tmp_path, Request(uri="https://mlflow.example"), 5000, "http://x/api") is None
    own = servers.mlflow_server(tmp_path, Request(), 5000, "http://x/api")
    assert own is not None and own.environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.slow
def test_one_that_ends_while_it_starts_is_told_with_its_log(tmp_path: Path) -> None:
    place = Place(small_workspace(tmp_path / "w"))
    (place.folder / "mlflow.db").write_text("this is no database")
    try:
        failed = place.goku("up")
        assert failed.returncode == 2 and "Traceback (most" not in failed.stderr.split("The end of")[0]
        assert "MLflow's server ended before it served" in failed.stderr
        assert "file is not a database" in failed.stderr and "goku run --no-flow" in failed.stderr
        assert place.services()["prefect"]["state"] == "healthy"
        (place.folder / "mlflow.db").unlink()
        assert place.told("up")["services"]["prefect"] == "running"
    finally:
        place.told("down")
    assert processes.marked(place.folder) == []


@pytest.mark.slow
def test_with_a_password_nobody_is_let_in_without_it(tmp_path: Path) -> None:
    """And `prefect deploy --all`, by somebody who has it, reads the same prefect.yaml."""
    place = Place(small_workspace(tmp_path / "w"))
    password = {"PREFECT_SERVER_API_AUTH_STRING": "goku:planted"}
    (place.folder / "prefect.yaml").write_text((ROOT / "prefect.yaml").read_text())
    try:
        begun = place.goku("up", "--host", "0.0.0.0", **password)
        assert begun.returncode == 0, begun.stderr
        for path in ("flows/count", "deployments/filter", "work_pools/filter"):
            assert call(f"{place.api}/{path}", {})[0] == 401
        assert call(f"{place.api}/admin/settings")[0] == 401
        for file in (place.folder / ".goku/services").iterdir():
            assert "planted" not in file.read_text(), file
        listed = [place.prefect("deployment", "ls", "-o", "json")]
        place.prefect("deploy", "--all", "--no-prompt")
        listed.append(place.prefect("deployment", "ls", "-o", "json"))
        before, after = (sorted((one["name"], one["entrypoint"]) for one in json.loads(text)) for text in listed)
        assert len(before) == 11 and before == after
    finally:
        assert place.goku("down", **password).returncode == 0
    assert processes.marked(place.folder) == []
