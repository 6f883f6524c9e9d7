"""How `goku serve` ends and comes back: SIGTERM, kill -9, another one in the same place, an address that is open to others."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import httpx
import pytest
from drawing_workspace import drawing_workspace
from serving_workspace import Service
from signing_keys import make_keys
from typer.testing import CliRunner

from goku_core.cli import app
from goku_core.media.credentials import read_credentials

LONG = {"steps": 900, "height": 384, "width": 384}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ending")
    drawing_workspace(root)
    return root


def refused(root: Path, *options: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(root)
    result = CliRunner().invoke(app, ["serve", "--no-page", *options])
    assert result.exception is not None and not isinstance(result.exception, SystemExit), result.output
    return str(result.exception)


@pytest.mark.platform
def test_sigterm_answers_everybody_and_a_restart_remembers(root: Path) -> None:
    with Service(root, "--max-steps", "1000", "--grace", "60", "--per-client", "4") as service:
        done = service.drawn(seed=1, steps=2)
        content = service.content(done["id"])
        running = service.taken(steps=900, height=256, width=256)
        waiting = [service.taken(seed=seed) for seed in range(3)]
        service.running(running["id"])
        for name in ({}, {"X-Forwarded-For": "192.0.2.7"}):  # which nobody was told to believe
            fifth = service.client.post("/v1/generations", json={"prompt": "x"}, headers=name)
            assert (fifth.status_code, fifth.json()["error"]["code"]) == (429, "per-client")
        service.process.send_signal(signal.SIGTERM)
        told = [service.ticket(one["id"], wait=60) for one in waiting]
        assert [one["state"] for one in told] == ["cancelled"] * 3
        assert {one["error"]["code"] for one in told} == {"shutdown"}
        late = service.order(seed=9)
        assert late.status_code == 503 and late.headers["Retry-After"]
        assert service.client.get("/readyz").status_code == 503
        assert service.ticket(running["id"], wait=60)["state"] == "done", "within its grace"
        assert service.process.wait(timeout=60) == 0
    with Service(root, ready=False) as service:
        assert service.content(done["id"]) == content
        assert service.ticket(running["id"])["state"] == "done"
        assert service.ticket(waiting[0]["id"])["error"]["code"] == "shutdown"


@pytest.mark.platform
def test_what_does_not_end_within_the_grace_is_told_so(root: Path) -> None:
    options = ("--max-steps", "1000", "--grace", "0.2", "--per-client", "1", "--proxy", "127.0.0.1")
    with Service(root, *options) as service:
        running = service.taken(**LONG)
        service.running(running["id"])
        assert service.order().json()["error"]["code"] == "per-client"
        behind = service.client.post("/v1/generations", json={"prompt": "x"}, headers={"X-Forwarded-For": "192.0.2.7"})
        assert behind.status_code == 202, "somebody else behind the proxy"
        assert service.end() == 0
    with Service(root, ready=False) as service:
        ticket = service.ticket(running["id"])
        assert (ticket["state"], ticket["error"]["code"]) == ("failed", "shutdown")


@pytest.mark.platform
def test_killed_it_draws_what_it_owed_and_the_same_bytes(root: Path) -> None:
    with Service(root, "--max-steps", "1000") as service:
        known = service.drawn(seed=5, steps=3)
        running = service.taken(**LONG)
        waiting = service.taken(seed=5, steps=3)
        service.running(running["id"])
        service.end(signal.SIGKILL)
    with Service(root, "--max-steps", "1000") as service:
        assert service.ticket(running["id"])["state"] in ("queued", "running")
        service.running(running["id"])
        service.end(signal.SIGKILL)
    with Service(root, "--max-steps", "1000") as service:
        lost = service.ticket(running["id"], wait=60)
        assert (lost["state"], lost["error"]["code"]) == ("failed", "worker-died"), "it took the service down twice"
        drawn = service.ticket(waiting["id"], wait=60)
        assert drawn["result"]["sha256"] == known["result"]["sha256"]


@pytest.mark.platform
def test_one_service_in_a_workspace_and_a_second_signal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Service(root, "--max-steps", "1000", ready=False) as service:
        said = refused(root, "--port", "0", monkeypatch=monkeypatch)
        assert "Another `goku serve` works in this workspace" in said
        port = service.url.rpartition(":")[2]
        assert "cannot listen there" in refused(root, "--port", port, monkeypatch=monkeypatch)
        assert service.end(signal.SIGINT) == 0


@pytest.mark.platform
def test_files_are_signed_and_others_need_the_token(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("c2pa")
    keys = make_keys(tmp_path / "keys")
    with Service(root, GOKU_SERVE_TOKEN="correct-horse-battery", **keys.environment()) as service:
        ticket = service.drawn(steps=1)
        file = tmp_path / "a.png"
        file.write_bytes(service.content(ticket["id"]))
        found = read_credentials(file, keys.root)
        assert found.state == "trusted" and found.provenance is not None and found.provenance.model == ticket["digest"]
        for path in (f"/v1/generations/{ticket['id']}/file", "/v1/models", "/docs", "/"):
            assert httpx.get(service.url + path, trust_env=False).status_code == 401
        environment = Path(f"/proc/{service.worker()}/environ").read_bytes()
        assert b"correct-horse" not in environment, "the worker, which reads models, does not know the token"


@pytest.mark.platform
def test_a_worker_that_grows_too_large_is_ended(root: Path) -> None:
    """At 64 MB it cannot even hold torch: the service says why it is not ready, and answers."""
    with Service(root, "--memory", "64", ready=False) as service:
        service.until(lambda: "64 MB" in (service.client.get("/readyz").json()["because"] or ""), "never said")
        ticket = service.order(wait=60).json()
        assert (ticket["state"], ticket["error"]["code"]) == ("failed", "out-of-memory")
        assert service.client.get("/healthz").json() == {"status": "ok"}


def test_it_does_not_start_where_it_could_not_serve(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOKU_SERVE_TOKEN", raising=False)
    open_to_all = refused(root, "--host", "0.0.0.0", monkeypatch=monkeypatch)
    assert "GOKU_SERVE_TOKEN" in open_to_all and "ssh -L" in open_to_all
    monkeypatch.setenv("GOKU_SERVE_TOKEN", "short")
    assert "at least 16" in refused(root, monkeypatch=monkeypatch)
    monkeypatch.delenv("GOKU_SERVE_TOKEN")
    assert "No model has been promoted" in refused(tmp_path, "--port", "0", monkeypatch=monkeypatch)
    assert "No model 'challenger'" in refused(root, "--port", "0", "--model", "challenger", monkeypatch=monkeypatch)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = refused(root, "--port", str(taken.getsockname()[1]), monkeypatch=monkeypatch)
    assert "cannot listen there" in said and "--port" in said
