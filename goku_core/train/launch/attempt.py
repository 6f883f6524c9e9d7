"""One attempt: the nodes meet, the ranks run under torch's elastic agent, and what ended them is found out."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from goku_core.train.health.heart import pulses
from goku_core.train.health.request import FaultSettings
from goku_core.train.launch.failures import Ending, Failure, cause, read_error
from goku_core.train.launch.nodes import Nodes
from goku_core.train.launch.places import Places, RankFiles
from goku_core.train.launch.supervisor import Supervisor


@dataclass(frozen=True)
class Job:
    """What is started.

    file     the job's JSON, handed to every rank
    module   Python module that a rank is
    scratch  folder of the run that survives attempts
    ranks    of one node
    """

    file: Path
    module: str
    scratch: Path
    ranks: int


def files_of(job: Job, number: int, nodes: Nodes) -> RankFiles:
    return RankFiles(Places(job.scratch, number), nodes.node, os.getpid(), nodes.interface)


def attempt(
    job: Job,
    files: RankFiles,
    members: Sequence[int],
    nodes: Nodes,
    settings: FaultSettings,
    leaving: threading.Event,
    host: str,
) -> Failure | None:
    """Runs the ranks of this node until they end; None when they have done their work."""
    config = LaunchConfig(
        min_nodes=len(members),
        max_nodes=len(members),
        nproc_per_node=job.ranks,
        run_id=f"attempt-{files.places.attempt}",  # a meeting of its own: nothing of the last one is left in it
        role="train",
        rdzv_backend="c10d",
        rdzv_endpoint=nodes.endpoint,
        rdzv_configs={"is_host": nodes.leads, "join_timeout": int(nodes.join_seconds), "last_call_timeout": 1},
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=files,
        local_addr=nodes.address,
        signals_to_handle="SIGQUIT",  # the others are the launcher's own: its ranks save before they go
    )
    supervisor = Supervisor(files, settings, nodes, leaving, host, members)
    supervisor.start()
    try:
        elastic_launch(config, sys.executable)("-m", "goku_core.train.launch.member", job.module, str(job.file))
    except ChildFailedError as failed:
        codes = {rank: failure.exitcode for rank, failure in failed.failures.items()}
        return _failure(codes, files, supervisor, host)
    except RendezvousError as error:
        message = f"the nodes did not meet: {type(error).__name__}: {error}"
        return Failure("node bad", message, at=time.time(), node=nodes.node, host=host)
    finally:
        supervisor.end()
    return None


def _failure(codes: dict[int, int], files: RankFiles, supervisor: Supervisor, host: str) -> Failure:
    now, places = time.time(), files.places
    beats = {pulse.rank: pulse for pulse in pulses(places.hearts)}
    progress = max((pulse.saved for pulse in beats.values()), default=-1)
    if supervisor.failure is not None:
        return Failure(**(supervisor.failure.as_json() | {"progress": progress}))
    endings = [
        Ending(rank, code, rank in supervisor.killed, places.log(rank), read_error(places.error(rank)))
        for rank, code in sorted(codes.items())
    ]
    kind, rank, message, excerpt = cause(endings) or ("crash", None, "connection lost to a rank of another node", "")
    beat = beats.get(rank) if rank is not None else None
    return Failure(
        kind,
        message,
        rank=rank,
        step=beat.step if beat else None,
        excerpt=excerpt,
        at=now,
        waited=now - beat.last_beat if beat else None,
        progress=progress,
        node=files.node,
        host=host,
    )
