"""Starts the ranks of a job and waits for them."""

from __future__ import annotations

import sys
from pathlib import Path

from goku_core.pipeline.errors import GokuError


def launch(job: Path) -> None:
    """Returns when all ranks have ended well. Raises `GokuError` with what the first one to fail said."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from goku_core.train.job import Job

    parallel = Job.read(job).request.parallel
    if parallel.nodes > 1:
        raise GokuError("train.parallel.nodes: this launcher starts the ranks of one machine; set nodes: 1")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=parallel.ranks_per_node,
        run_id=job.parent.name,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        local_addr="127.0.0.1",
    )
    try:
        elastic_launch(config, sys.executable)("-m", "goku_core.train.rank", str(job))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        said = failure.message if isinstance(failure.message, str) else failure.message.get("message", "")
        raise GokuError(f"rank {rank} failed: {said}") from error
