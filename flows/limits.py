"""One training of a lineage at a time, whoever starts it and from whatever queue.

A lineage is repository, branch and folder (`registration.lineage_name`). The limit lives on Prefect's server, under a name
of its own, with a lease: a process that is killed gives its place back within `LEASE_SECONDS`. Without the server there is
the lock of the work itself (`pipeline.executor`): the same training is never done twice at once, and whatever else runs in
the same folder ends as a commit of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.logging import get_run_logger

from goku_core.services.registration import lineage_name

TRAINS = ("train", "vae", "tune")  # stages that take the machine's accelerators for hours
LEASE_SECONDS = 60.0  # the least that Prefect grants; renewed for as long as the process lives


def limit_name(workspace: Path) -> str:
    return f"training-{lineage_name(workspace)}"


@contextmanager
def place_to_train(stage: str, workspace: Path) -> Iterator[None]:
    """Wait for the lineage's place and hold it; other stages need none.

    Work that has begun goes on where the server is lost meanwhile: an answer that is missing ends no training.
    """
    if stage not in TRAINS:
        yield
        return
    name = limit_name(workspace)
    with get_client(sync_client=True) as client:
        try:
            client.upsert_global_concurrency_limit_by_name(name, 1)
        except ObjectAlreadyExists:  # another run has made it at the same moment
            get_run_logger().debug("limit %s is there", name)
        if client.read_global_concurrency_limit_by_name(name).active_slots:
            get_run_logger().info("another training of %s runs: waiting for it", name)
    with concurrency(name, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False):
        yield
