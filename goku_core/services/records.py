"""What was started, as files: ``.goku/services/NAME.json`` beside the log of each service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goku_core.pipeline.files import write_json
from goku_core.services.processes import Identity, alive

NAMES = ("prefect", "mlflow", "worker")  # in the order in which they are needed; ended in the opposite one


@dataclass(frozen=True)
class Started:
    """One service that was started.

    url     address of its pages; of the worker: that of the server it works for
    port    0 for the worker, which listens nowhere
    since   when, ISO 8601 in UTC
    """

    name: str
    who: Identity
    host: str
    port: int
    url: str
    log: str
    since: str

    @property
    def alive(self) -> bool:
        return alive(self.who)

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "who": self.who.as_json()}


def folder(workspace: Path) -> Path:
    return workspace / ".goku" / "services"


def log_file(workspace: Path, name: str) -> Path:
    return folder(workspace) / f"{name}.log"


def write(workspace: Path, started: Started) -> None:
    write_json(folder(workspace) / f"{started.name}.json", started.as_json())


def read(workspace: Path, name: str) -> Started | None:
    """None where it was never started, or stopped; a record that cannot be read names nothing that could be ours."""
    try:
        value = json.loads((folder(workspace) / f"{name}.json").read_text())
        return Started(**{**value, "who": Identity(**value["who"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def forget(workspace: Path, name: str) -> None:
    (folder(workspace) / f"{name}.json").unlink(missing_ok=True)


def remembered(workspace: Path, name: str) -> dict[str, Any]:
    """What outlives `goku down`: ``ports``, and the basis of the ``deployments`` that were registered last."""
    try:
        return json.loads((folder(workspace) / f"{name}.json").read_text())
    except (OSError, ValueError):
        return {}


def remember(workspace: Path, name: str, value: Mapping[str, Any]) -> None:
    write_json(folder(workspace) / f"{name}.json", dict(value))


def prefect_api(workspace: Path) -> str | None:
    """Address of the API of this workspace's Prefect server, where it runs."""
    started = read(workspace, "prefect")
    return f"{started.url}/api" if started and started.alive else None
