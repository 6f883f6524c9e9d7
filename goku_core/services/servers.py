"""The three programs: how each is started, and how one sees that it serves."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from goku_core import tracking
from goku_core.pipeline.errors import GokuError
from goku_core.services.processes import MARK
from goku_core.services.web import AUTH

POOLS, WORKER = ("cpu", "gpu"), "goku"
LOOPBACK = "127.0.0.1"
PREFECT_PORT, MLFLOW_PORT = 4200, 5000
# Prefect: the older ones skip authentication on some paths and start a restarted pod's run twice. MLflow: the older ones
# read files and skip authentication on some routes (CVE-2026-2614, -2651, -2652, -0545).
LEAST = {"prefect": (3, 8, 1), "mlflow": (3, 17, 0)}
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it runs code for whoever asks, in seven more processes (1.3 GB)
}
SETTABLE = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # s
    # Three of them missed, and a run counts as dead (flows.automations).
    "GOKU_DEAD_RUN_SECONDS": "90",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "7776000",  # s: runs that ended 90 days ago are forgotten
}


@dataclass(frozen=True)
class Service:
    """title is for messages; health is the address that answers when it serves ("" for the worker)."""

    name: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    host: str
    port: int
    url: str
    health: str


def require_safe_versions() -> None:
    """Raises `GokuError` where an engine is older than what is safe to start."""
    for package, least in LEAST.items():
        found = version(package)
        numbers = tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in found.split(".")[:3])
        if numbers < least:
            wanted = ".".join(map(str, least))
            raise GokuError(
                f"{package} {found} is installed; servers older than {wanted} have holes that are known in public and "
                f"are not started. Install again: pip install -c constraints.txt -e ."
            )


def require_guarded(host: str) -> None:
    """Raises `GokuError` for an address that others can reach while no password is set.

    Whoever may call Prefect's API may run code on the workers, so that an open server is an open machine.
    """
    if is_loopback(host) or ":" in os.environ.get(AUTH, ""):
        return
    raise GokuError(
        f"--host {host}: others could reach this address, and Prefect's server asks nobody who he is: whoever reaches "
        f"it may run code here. Set {AUTH} (USER:PASSWORD) and say it again, or leave --host away and reach the "
        f"server through a tunnel: ssh -L {PREFECT_PORT}:{LOOPBACK}:{PREFECT_PORT} HOST."
    )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reached_at(host: str) -> str:
    """Where this machine reaches a server that listens on `host`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return LOOPBACK
    return f"[{host}]" if address.version == 6 else host


def environment(workspace: Path, api: str) -> dict[str, str]:
    """Of every process that is started: this workspace's database, this server, nobody told of it."""
    inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_PROFILE"}
    none = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), LOOPBACK, "localhost"]))
    mine = {
        MARK: str(workspace),
        "PREFECT_HOME": str(workspace / ".goku" / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_UI_API_URL": "/api",  # its pages ask where they came from: another machine, a tunnel on another port
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # never pickle
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        # Who holds a place of a concurrency limit is kept over a restart of the server; kept in memory, the place of a run
        # that ended meanwhile would never be free again.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        **{name: os.environ.get(name, value) for name, value in SETTABLE.items()},
        "NO_PROXY": none,
        "no_proxy": none,
    }
    if secret := os.environ.get(AUTH):
        mine["PREFECT_API_AUTH_STRING"] = secret
    return inherited | QUIET | mine


def prefect_server(workspace: Path, host: str, port: int) -> Service:
    url = f"http://{reached_at(host)}:{port}"
    command = (sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port))
    return Service(
        "prefect",
        "Prefect's server",
        command,
        environment(workspace, f"{url}/api"),
        host,
        port,
        url,
        f"{url}/api/health",
    )


def mlflow_server(workspace: Path, settings: tracking.Request, port: int, api: str) -> Service | None:
    """On the workspace's own tracking store; None where that is a server already. Never beyond this machine.

    It has no password of its own: what lets others in is a proxy that asks for one.
    """
    store = tracking.resolve_uri(settings.uri, workspace)
    if store.startswith(("http:", "https:", "databricks")):
        return None
    url = f"http://{LOOPBACK}:{port}"
    # The store's address may hold a password: through the environment, where others cannot read it.
    places = {
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_ARTIFACTS_DESTINATION": str(workspace / "mlartifacts"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{LOOPBACK}:{port},localhost:{port}",
    }
    command = (sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1")
    surroundings = environment(workspace, api) | places
    surroundings.pop("MLFLOW_TRACKING_URI", None)
    return Service("mlflow", "MLflow's server", command, surroundings, LOOPBACK, port, url, f"{url}/health")


def worker(workspace: Path, server: Service) -> Service:
    """One process for all pools of this machine: the runs of both share its cores and its GPUs."""
    command = (sys.executable, "-m", "flows.worker", *POOLS, "--name", WORKER)
    surroundings = environment(workspace, f"{server.url}/api")
    return Service("worker", "the worker", command, surroundings, server.host, 0, server.url, "")
