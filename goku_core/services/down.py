"""`goku down`: running flow runs are told, then worker and servers end, in this order. Nothing that was stored goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from goku_core.pipeline.files import lock
from goku_core.services import processes, records
from goku_core.services.servers import POOLS
from goku_core.services.web import Silent, answers, ask

WHY = "goku down: the worker ends. Run it again after goku up: finished cells are not repeated, training goes on."
SERVER_GRACE_SECONDS = 30.0


def down(workspace: Path, grace: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """End everything that `goku up` has started here. ``{"services": {name: how}, "runs": names, "swept": number}``.

    grace  seconds that running flow runs have to end, before they are killed
    """
    workspace = workspace.resolve()

    def waits(holder: str) -> None:
        tell(f"another {holder or 'goku up or down'} is at work here, waiting for it")

    with lock(records.folder(workspace) / "lock", owner="goku down", waiting=waits):
        api = records.prefect_api(workspace)
        runs = _cancel(api, grace, tell) if api and answers(f"{api}/health") else []
        how: dict[str, str] = {}
        for name in reversed(records.NAMES):
            if started := records.read(workspace, name):
                if name == "prefect":
                    _settle(api, runs)
                how[name] = processes.stop(started.who, SERVER_GRACE_SECONDS)
                records.forget(workspace, name)
                tell(f"{name}: {how[name]}")
            if name == "worker":
                spared = {one.who.pid for one in (records.read(workspace, n) for n in records.NAMES) if one}
                swept = processes.sweep(workspace, grace, spared)
        return {"services": how, "runs": [run["name"] for run in runs], "swept": swept}


def _cancel(api: str, grace: float, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Ask for the end of what runs, and wait for it."""
    runs = _active(api)
    for run in runs:
        tell(f"flow run {run['name']} is cancelled; what it has finished stays, the rest can be run again")
        _set(api, run, "CANCELLING")
    processes.wait(lambda: not _active(api), grace if runs else 0.0)
    return runs


def _settle(api: str | None, runs: list[dict[str, Any]]) -> None:
    """A run that was killed, not cancelled, would be shown as running for ever."""
    if not api or not runs:
        return
    names = {run["id"] for run in runs}
    for run in _active(api):
        if run["id"] in names:
            _set(api, run, "CANCELLED")


def _active(api: str) -> list[dict[str, Any]]:
    """Runs of the worker. One that somebody has started in a shell of his own (`goku run`) is not ended for him."""
    state = {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}
    wanted = {"flow_runs": {"state": state}, "work_pools": {"name": {"any_": list(POOLS)}}, "limit": 200}
    try:
        return ask(f"{api}/flow_runs/filter", wanted)
    except Silent:
        return []


def _set(api: str, run: dict[str, Any], kind: str) -> None:
    try:
        state = {"type": kind, "name": kind.capitalize(), "message": WHY}
        ask(f"{api}/flow_runs/{run['id']}/set_state", {"state": state, "force": kind == "CANCELLED"})
    except Silent:  # it has ended meanwhile, or the server has: both are looked at again
        return
