"""`python -m goku_core.train.launch JOB.json`: the launcher of one node."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

from goku_core.pipeline.errors import GokuError
from goku_core.train.health.request import FaultSettings
from goku_core.train.launch.attempt import Job
from goku_core.train.launch.loop import Launch
from goku_core.train.launch.nodes import SILENCE_SECONDS, Left, Nodes


def main() -> int:
    parser = argparse.ArgumentParser(description="Start, watch and restart the ranks of a training job on this node.")
    parser.add_argument("job", type=Path, help="JSON with the folder `scratch` and the `request` of the phase")
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
    given = parser.parse_args()
    end = time.monotonic() + given.join_seconds
    while not given.job.is_file():  # written by node 0, in a folder that all nodes see
        if given.node == 0 or time.monotonic() > end:
            raise GokuError(f"{given.job}: there is no such file.")
        time.sleep(1.0)
    told = json.loads(given.job.read_text(encoding="utf-8"))
    request = told.get("request", {})
    parallel = request.get("parallel", {})
    ranks, count = given.ranks or parallel.get("ranks_per_node", 1), given.nodes or parallel.get("nodes", 1)
    settings = FaultSettings.model_validate(request.get("faults", {}))
    if count > 1 and given.endpoint is None:
        raise GokuError(f"{count} nodes need --endpoint HOST:PORT (or GOKU_ENDPOINT), the address of node 0.")
    if not 0 <= given.node < count:
        raise GokuError(f"--node {given.node}: the nodes are numbered 0 to {count - 1}.")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, told.get("cores", os.cpu_count() or 1) // ranks)))
    leaving = threading.Event()
    try:
        nodes = Nodes(
            given.node, count, given.endpoint if count > 1 else None, leaving, given.join_seconds, given.silence_seconds
        )
    except Left:
        return 75
    job = Job(given.job.resolve(), given.module, Path(told["scratch"]), ranks)
    return Launch(job, settings, nodes, given.least_nodes or count, given.store, given.parent).run()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GokuError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
