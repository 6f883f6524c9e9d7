"""`python -m goku_core.train.launch JOB.json`: the launcher of one node."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError
from goku_core.train.health.errors import PREEMPTED
from goku_core.train.health.request import FaultSettings
from goku_core.train.launch.attempt import Job
from goku_core.train.launch.loop import Launch
from goku_core.train.launch.nodes import SILENCE_SECONDS, LeaderGone, Left, Nodes

BETWEEN_JOBS_SECONDS = 2.0  # the store of a job that is done goes away within them


def main() -> int:
    parser = argparse.ArgumentParser(description="Start, watch and restart the ranks of a training job on this node.")
    parser.add_argument(
        "job",
        type=Path,
        nargs="?",
        help="JSON with the folder `scratch` and the `request` of the phase; node 0 tells the others",
    )
    parser.add_argument("--ranks", type=int, help="of this node; default: request.parallel.ranks_per_node")
    parser.add_argument("--nodes", type=int, help="of the job; default: request.parallel.nodes")
    parser.add_argument(
        "--node", type=int, default=int(os.environ.get("GOKU_NODE", "0")), help="number of this one, from 0"
    )
    parser.add_argument(
        "--endpoint", default=os.environ.get("GOKU_ENDPOINT"), help="HOST:PORT of node 0 (several nodes only)"
    )
    parser.add_argument("--least-nodes", type=int, help="go on with so few when others are bad; default: all")
    parser.add_argument("--join-seconds", type=float, default=600.0, help="wait for the other nodes")
    parser.add_argument(
        "--silence-seconds", type=float, default=SILENCE_SECONDS, help="a node that says nothing for so long is gone"
    )
    parser.add_argument("--store", help="object store to examine before a start, s3://bucket/prefix")
    parser.add_argument("--parent", type=int, help="leave when this process is gone")
    parser.add_argument("--module", default="goku_core.train.rank", help="what a rank runs")
    parser.add_argument("--stay", action="store_true", help="without JOB: then wait for the next job of node 0")
    given = parser.parse_args()
    leaving = threading.Event()
    if given.job is not None:
        return _lead_or_follow(given, leaving)
    if given.node == 0 or given.endpoint is None:
        raise GokuError("node 0 needs the JOB; another node needs --node and --endpoint HOST:PORT to be told of it.")
    signal.signal(signal.SIGTERM, lambda *_: leaving.set())
    while True:
        code = _follow(given, leaving)
        if code or not given.stay:
            return code
        time.sleep(BETWEEN_JOBS_SECONDS)


def _lead_or_follow(given: argparse.Namespace, leaving: threading.Event) -> int:
    """The launcher of a job whose file is known."""
    end = time.monotonic() + given.join_seconds
    while not given.job.is_file():  # written by node 0, in a folder that all nodes see
        if given.node == 0 or time.monotonic() > end:
            raise GokuError(f"{given.job}: there is no such file.")
        time.sleep(1.0)
    told = json.loads(given.job.read_text(encoding="utf-8"))
    parallel = told.get("request", {}).get("parallel", {})
    ranks, count = given.ranks or parallel.get("ranks_per_node", 1), given.nodes or parallel.get("nodes", 1)
    if count > 1 and given.endpoint is None:
        raise GokuError(f"{count} nodes need --endpoint HOST:PORT (or GOKU_ENDPOINT), the address of node 0.")
    if not 0 <= given.node < count:
        raise GokuError(f"--node {given.node}: the nodes are numbered 0 to {count - 1}.")
    try:
        nodes = _nodes(given, count, given.endpoint if count > 1 else None, leaving)
    except Left:
        return PREEMPTED
    if nodes.leads:
        file = str(given.job.resolve())
        nodes.say("job", {"file": file, "module": given.module, "ranks": ranks, "nodes": count})
    return _launch(given, nodes, given.job.resolve(), told, given.module, ranks)


def _follow(given: argparse.Namespace, leaving: threading.Event) -> int:
    """The launcher of a job that node 0 tells of. Waits for it without end with --stay: node 0 works between jobs too."""
    while True:
        try:
            nodes = _nodes(given, given.node + 1, given.endpoint, leaving)
            break
        except Left:
            return PREEMPTED
        except GokuError:
            if not given.stay:
                raise
    try:
        job = nodes.hear("job", given.join_seconds)
    except Left:
        return PREEMPTED
    except LeaderGone:
        job = None
    if job is None:  # it went away, or has only just come back
        return 0 if given.stay else PREEMPTED
    nodes.count = job["nodes"]
    if not 0 <= given.node < nodes.count:
        raise GokuError(f"--node {given.node}: the nodes of {job['file']} are numbered 0 to {nodes.count - 1}.")
    file = Path(job["file"])
    if not file.is_file():
        raise GokuError(
            f"{file}: node 0 has written it, and it is not seen here. All nodes need one file system, at one path."
        )
    told = json.loads(file.read_text(encoding="utf-8"))
    return _launch(given, nodes, file, told, job["module"], job["ranks"])


def _nodes(given: argparse.Namespace, count: int, endpoint: str | None, leaving: threading.Event) -> Nodes:
    return Nodes(given.node, count, endpoint, leaving, given.join_seconds, given.silence_seconds)


def _launch(
    given: argparse.Namespace, nodes: Nodes, file: Path, told: Mapping[str, Any], module: str, ranks: int
) -> int:
    settings = FaultSettings.model_validate(told.get("request", {}).get("faults", {}))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, told.get("cores", os.cpu_count() or 1) // ranks)))
    job = Job(file, module, Path(told["scratch"]), ranks)
    return Launch(job, settings, nodes, given.least_nodes or nodes.count, given.store, given.parent).run()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GokuError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
