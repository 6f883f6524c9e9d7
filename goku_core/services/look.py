"""What runs, what waits, what ended last, and what it takes of the disk: the facts behind `goku status --services`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from goku_core.services import processes, records
from goku_core.services.records import Started
from goku_core.services.servers import POOLS, WORKER
from goku_core.services.web import Silent, answers, ask

HEARTBEAT_SECONDS = 90  # a worker that has said nothing for three of its heartbeats is not there
HEALTH = {"prefect": "/api/health", "mlflow": "/health"}
LAST_RUNS, MOST_SHOWN = 5, 200
PUT_ASIDE = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}  # runs that wait for a person's answer


def facts(workspace: Path) -> dict[str, Any]:
    """``{"services", "queue", "runs", "waiting", "schedules", "automations", "disk", "memory"}``; what cannot be asked is None."""
    workspace = workspace.resolve()
    api = records.prefect_api(workspace)
    serves = api is not None and answers(f"{api}/health")
    return {
        "services": [_service(name, records.read(workspace, name), api) for name in records.NAMES],
        "queue": _queue(api) if serves else None,
        "runs": _runs(api, {}, LAST_RUNS) if serves else None,
        "waiting": _runs(api, PUT_ASIDE, MOST_SHOWN) if serves else None,
        "schedules": _schedules(api) if serves else None,
        "automations": _automations(api) if serves else None,
        "disk": _disk(workspace),
        "memory": processes.memory(workspace),
    }


def _service(name: str, started: Started | None, api: str | None) -> dict[str, Any]:
    if started is None or not started.alive:
        state = "stopped" if started is None else "ended"
    elif name == "worker":
        state = "healthy" if api and _online(api, started) else "silent"
    else:
        state = "healthy" if answers(f"{started.url}{HEALTH[name]}") else "silent"
    running = started is not None and started.alive
    return {
        "name": name,
        "state": state,
        "url": started.url if started and running and name != "worker" else None,
        "pid": started.who.pid if started and running else None,
        "since": started.since if started and running else None,
        "log": started.log if started else None,
    }


def worker_is_online(workspace: Path, api: str) -> bool:
    """Does the server hear the worker that was started here, not only one of the same name from before?"""
    started = records.read(workspace, "worker")
    return started is not None and started.alive and _online(api, started)


def _online(api: str, started: Started) -> bool:
    return all(_polls(api, pool, started) for pool in POOLS)


def _polls(api: str, pool: str, started: Started) -> bool:
    try:
        known = ask(f"{api}/work_pools/{pool}/workers/filter", {"limit": 20})
    except Silent:
        return False
    heard = [one["last_heartbeat_time"] for one in known if one["name"] == WORKER and one["status"] == "ONLINE"]
    least = max(datetime.fromisoformat(started.since), datetime.now(UTC) - timedelta(seconds=HEARTBEAT_SECONDS))
    return any(datetime.fromisoformat(time) >= least for time in heard if time)


def _queue(api: str) -> dict[str, int] | None:
    """Flow runs by what they wait for."""
    kinds = {"waiting": ["SCHEDULED"], "starting": ["PENDING"], "running": ["RUNNING"], "stopping": ["CANCELLING"]}
    try:
        return {
            name: ask(f"{api}/flow_runs/count", {"flow_runs": {"state": {"type": {"any_": types}}}})
            for name, types in kinds.items()
        }
    except Silent:
        return None


def _schedules(api: str) -> list[dict[str, Any]] | None:
    """By deployment: what is declared, and whether it is switched on."""
    try:
        found = ask(f"{api}/deployments/filter", {"limit": MOST_SHOWN})
    except Silent:
        return None
    return [
        {"deployment": one["name"], "entrypoint": one["entrypoint"], "name": each["slug"], "active": each["active"]}
        | {"cron": each["schedule"].get("cron"), "timezone": each["schedule"].get("timezone")}
        for one in found
        for each in one["schedules"]
    ]


def _automations(api: str) -> list[dict[str, Any]] | None:
    try:
        found = ask(f"{api}/automations/filter", {"limit": MOST_SHOWN})
    except Silent:
        return None
    return sorted(({"name": one["name"], "enabled": one["enabled"]} for one in found), key=lambda one: one["name"])


def _runs(api: str, wanted: Mapping[str, Any], most: int) -> list[dict[str, Any]] | None:
    try:
        found = ask(f"{api}/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": most, **wanted})
    except Silent:
        return None
    return [
        {
            "id": run["id"],
            "name": run["name"],
            "state": run["state_name"],
            "start": run["start_time"] or run["expected_start_time"],
            "seconds": run["total_run_time"],
            "url": f"{api.removesuffix('/api')}/runs/flow-run/{run['id']}",
        }
        for run in found
    ]


def _disk(workspace: Path) -> dict[str, int]:
    """Bytes: what is free, and what the workspace's own folders take (a file with several names counts once)."""
    places = {
        "store": ".goku/store",
        "bundles": ".goku/bundles",
        "prefect": ".goku/prefect",
        "logs": ".goku/services",
        "mlflow": "mlflow.db",
        "artifacts": "mlartifacts",
    }
    seen: set[tuple[int, int]] = set()
    sizes = {name: _bytes(workspace / path, seen) for name, path in places.items()}
    return {"free": shutil.disk_usage(workspace).free, **sizes}


def _bytes(place: Path, seen: set[tuple[int, int]]) -> int:
    total = 0
    for path in [place, *place.rglob("*")] if place.is_dir() else [place]:
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if path.is_file() and (found.st_dev, found.st_ino) not in seen:
            seen.add((found.st_dev, found.st_ino))
            total += found.st_size
    return total
