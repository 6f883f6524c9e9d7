"""`goku up`: the servers side by side, then the deployments, then the worker; whatever serves already is left alone."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from goku_core import config
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import lock
from goku_core.services import look, processes, records, servers
from goku_core.services.rearm import rearm
from goku_core.services.records import Started
from goku_core.services.registration import basis
from goku_core.services.servers import Service
from goku_core.services.web import answers

GRACE_SECONDS = 10.0
SILENT_SECONDS = 30.0  # for one that runs and does not answer, before it is started afresh
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """port None: the one of last time, else the engine's own. schedules: on or off; None: as they are."""

    host: str = servers.LOOPBACK
    prefect_port: int | None = None
    mlflow_port: int | None = None
    timeout: float = 120.0
    schedules: bool | None = None


def up(workspace: Path, wanted: Wanted, tell: Tell) -> dict[str, Any]:
    """Everything healthy. Returns what was done: ``{"services": {name: how}, "registered", "seconds", "memory"}``.

    Raises `GokuError` where that cannot be; what this call has started and does not serve is then ended again.
    """
    workspace, began = workspace.resolve(), time.monotonic()
    servers.require_safe_versions()
    servers.require_guarded(wanted.host)
    settings = config.load_params(workspace / "params.yaml").tracking

    def waits(holder: str) -> None:
        tell(f"another {holder or 'goku up or down'} is at work here, waiting for it")

    with lock(records.folder(workspace) / "lock", owner="goku up", waiting=waits):
        attempt = _Attempt(workspace, began + wanted.timeout, tell)
        server = servers.prefect_server(workspace, wanted.host, _port(workspace, "prefect", wanted.prefect_port))
        tracker = servers.mlflow_server(
            workspace, settings, _port(workspace, "mlflow", wanted.mlflow_port), f"{server.url}/api"
        )
        wanting = [service for service in (server, tracker) if service]
        if len({service.port for service in wanting}) < len(wanting):
            raise GokuError(f"both servers on port {server.port}: say --prefect-port and --mlflow-port differently.")
        for service in wanting:
            attempt.require_free(service)
        for service in wanting:
            attempt.start(service)
        attempt.await_health(server)
        registered = _register(workspace, server, attempt, wanted.schedules)
        attempt.start(servers.worker(workspace, server))
        attempt.await_worker(server)
        if tracker:
            attempt.await_health(tracker)
        else:
            tell("no MLflow server is started: the tracking URI names one that is there")
        records.remember(workspace, "ports", {service.name: service.port for service in wanting})
    return {
        "services": attempt.how,
        "registered": registered,
        "seconds": round(time.monotonic() - began, 1),
        "memory": processes.memory(workspace),
    }


def _port(workspace: Path, name: str, wanted: int | None) -> int:
    before = records.read(workspace, name)
    default = {"prefect": servers.PREFECT_PORT, "mlflow": servers.MLFLOW_PORT}[name]
    return wanted or (before.port if before else records.remembered(workspace, "ports").get(name, default))


class _Attempt:
    """One `goku up`: what it has found, and what it has started."""

    def __init__(self, workspace: Path, deadline: float, tell: Tell) -> None:
        self.workspace, self.deadline, self.tell = workspace, deadline, tell
        self.how: dict[str, str] = {}

    def start(self, service: Service) -> None:
        before = records.read(self.workspace, service.name)
        if before and before.alive:
            if (before.host, before.port) != (service.host, service.port):
                raise GokuError(
                    f"{service.title} runs at {before.url} (listening on {before.host}). Say `goku down` first, "
                    f"then `goku up` with the other address."
                )
            if not service.health or self._answers_in_time(service):
                self.how[service.name] = "running"
                return
            how = processes.stop(before.who, GRACE_SECONDS)
            self.tell(f"{service.title} ran and did not answer: {how}, and started again")
        elif before:
            self.tell(f"{service.title} had ended since it was started; its last words are in {before.log}.1")
        if service.name == "prefect":
            rearm(self.workspace, float(service.environment["GOKU_DEAD_RUN_SECONDS"]), self.tell)
        log = records.log_file(self.workspace, service.name)
        who = processes.start(service.command, self.workspace, service.environment, log)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        shown = log.relative_to(self.workspace).as_posix()
        records.write(self.workspace, Started(service.name, who, service.host, service.port, service.url, shown, now))
        self.how[service.name] = "restarted" if before else "started"

    def _answers_in_time(self, service: Service) -> bool:
        """An earlier command may have been interrupted while it waited: what it started may still be starting."""
        left = min(SILENT_SECONDS, self.deadline - time.monotonic())
        return processes.wait(lambda: answers(service.health), max(left, 0.0))

    def require_free(self, service: Service) -> None:
        """Raises `GokuError` where somebody else has the port. What was started here before may have it."""
        before = records.read(self.workspace, service.name)
        if before and before.alive:
            return
        if before:
            processes.end_orphans(self.workspace, before.who, GRACE_SECONDS)
        with socket.socket(socket.AF_INET6 if ":" in service.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((service.host, service.port))
            except OSError as error:
                raise GokuError(_taken(service, error)) from error

    def await_health(self, service: Service) -> None:
        self._await(service, lambda: answers(service.health))

    def await_worker(self, server: Service) -> None:
        service = servers.worker(self.workspace, server)
        self._await(service, lambda: look.worker_is_online(self.workspace, f"{server.url}/api"))

    def _await(self, service: Service, serves: Callable[[], bool]) -> None:
        started = records.read(self.workspace, service.name)
        while not serves():
            ended = started is None or not started.alive
            if ended or time.monotonic() > self.deadline:
                self._end_what_is_not_serving()
                how = "ended before it served" if ended else "did not serve in time (--timeout)"
                log = records.log_file(self.workspace, service.name)
                raise GokuError(
                    f"{service.title} {how}. The end of {log.relative_to(self.workspace)}:\n{processes.tail(log)}\n"
                    f"Mend what it says, then `goku up` again. What else serves was left running: `goku status "
                    f"--services` shows it, `goku down` ends it. The line needs no server: goku run --no-flow"
                )
            time.sleep(processes.POLL_SECONDS)

    def _end_what_is_not_serving(self) -> None:
        for name in reversed(records.NAMES):
            started = records.read(self.workspace, name)
            if started is None or self.how.get(name) not in ("started", "restarted"):
                continue
            if name == "worker" or not answers(f"{started.url}{look.HEALTH[name]}"):
                processes.stop(started.who, GRACE_SECONDS)
                records.forget(self.workspace, name)


def _taken(service: Service, error: OSError) -> str:
    if any(processes.listening(service.port)):
        return (
            f"port {service.port}, meant for {service.title}, is in use by {processes.listener(service.port)}. Stop "
            f"that, or take another: goku up --{service.name}-port {service.port + 1}"
        )
    return f"{service.title} cannot listen on {service.host}, port {service.port}: {error.strerror}."


def _register(workspace: Path, server: Service, attempt: _Attempt, schedules: bool | None) -> int | None:
    """How many deployments were registered; None where nothing they are made from has changed."""
    wanted, unchanged = basis(workspace), schedules is None and attempt.how["prefect"] == "running"
    if unchanged and records.remembered(workspace, "deployments") == wanted:
        return None
    command = [sys.executable, "-m", "flows.deployments", str(workspace)]
    command += {True: ["--schedules"], False: ["--no-schedules"], None: []}[schedules]
    left = max(attempt.deadline - time.monotonic(), 1.0)
    try:
        done = subprocess.run(
            command, cwd=workspace, env=server.environment, capture_output=True, text=True, timeout=left, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise GokuError(f"the deployments were not registered within {left:.0f} s (--timeout).") from error
    if done.returncode:
        raise GokuError(f"the deployments could not be registered; the servers run.\n{done.stderr.strip()[-2000:]}")
    records.remember(workspace, "deployments", wanted)
    return len(done.stdout.splitlines())
