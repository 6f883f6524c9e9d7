"""Before work goes to a Ray cluster: is it there, and does every node see the same files and the same code?"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from goku_core.pipeline import code
from goku_core.pipeline.context import available_cores
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import digest_json

ADDRESS = "RAY_ADDRESS"
MEDIA_CHECKED = 8
CHECK_SECONDS = 120.0
LOCAL_OBJECT_STORE_BYTES = 256 << 20  # rows travel, never pixels


def connect() -> None:
    """Joins the cluster at RAY_ADDRESS; without one starts a Ray of this machine alone, which ends with the process."""
    # Read when Ray is imported. It reports its use to its makers unless told not to, and warns of every actor pool that
    # its arguments might be lost, which cannot happen to those of a living driver.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get(ADDRESS)
    if address and address.startswith("ray://"):
        raise GokuError(
            f"{ADDRESS}={address}: Ray's client protocol is not supported. Run `goku` on a node of the cluster, with "
            f"{ADDRESS} set to HOST:6379 of the head node, or as a job (`ray job submit -- goku run --engine ray`)"
        )
    own = {}
    if not address:
        own = {
            "num_cpus": available_cores(),
            "object_store_memory": LOCAL_OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="warning", **own)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise GokuError(f"no Ray cluster can be reached at {address or 'this machine'}: {error}") from error


def require_shared(folder: Path, table: pa.Table, operator: str) -> None:
    """Every node must read what this process writes in ``folder``, write there itself, see the media that the rows name
    by absolute path, and hold the same code. Raises GokuError that names the node and what it lacks."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(16)
    probe = folder / f".probe-{token}"
    probe.write_text(token)
    asked = {
        "probe": str(probe),
        "token": token,
        "media": {path: Path(path).stat().st_size for path in _outside(table) if Path(path).is_file()},
        "path": sys.path,
        "room": operator.partition(":")[0],
        "code": _code(operator.partition(":")[0]),
    }
    ask = ray.remote(num_cpus=0, max_retries=0)(look)
    nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    try:
        answers = {
            node: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(asked, node)
            for node in nodes
        }
        for node, answer in answers.items():
            name = f"node {nodes[node]} ({node[:8]})"
            try:
                lacking = ray.get(answer, timeout=CHECK_SECONDS)
            except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):
                continue  # it left while being asked; nothing will be sent there
            except ray.exceptions.RayError as error:
                raise GokuError(
                    f"{name} cannot run goku: {str(error).strip().splitlines()[-1]}. The same installation (image or "
                    "virtual environment) must be on every node"
                ) from error
            if not lacking and not (folder / f"{probe.name}-{node}").is_file():
                lacking = f"writes to another {folder} than this process"
            if lacking:
                raise GokuError(
                    f"{name} {lacking}. The workspace, and media outside of it, must lie on a file system that all nodes "
                    "mount at the same path; see docs/cluster.md"
                )
    finally:
        for file in folder.glob(f"{probe.name}*"):
            file.unlink()


def _outside(table: pa.Table) -> list[str]:
    """A few of the absolute paths in the column ``uri``, spread over the table."""
    if "uri" not in table.column_names:
        return []
    step = max(1, table.num_rows // MEDIA_CHECKED)
    uris = table.column("uri").take(list(range(0, table.num_rows, step))).to_pylist()
    return [uri for uri in uris if uri and Path(uri).is_absolute()]


def _code(room: str) -> str:
    """Digest of the operator's code; empty where it cannot be found, which the child that loads it says better."""
    try:
        return digest_json(code.modules(room))
    except (ImportError, FileNotFoundError):
        return ""


def look(asked: dict[str, Any], node: str) -> str:
    """On a node: what is wrong there, in words; empty when nothing is."""
    sys.path += [path for path in asked["path"] if path not in sys.path]
    probe = Path(asked["probe"])
    if not probe.is_file() or probe.read_text() != asked["token"]:
        return f"does not see {probe.parent}"
    for path, size in asked["media"].items():
        if not Path(path).is_file() or Path(path).stat().st_size != size:
            return f"does not see {path}"
    if _code(asked["room"]) != asked["code"]:
        return f"holds another version of {asked['room']} or of what it imports"
    try:
        (probe.parent / f"{probe.name}-{node}").write_text(asked["token"])
    except OSError as error:
        return f"cannot write to {probe.parent}: {error}"
    return ""
