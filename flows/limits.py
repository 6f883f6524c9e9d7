"""One training of a lineage at a time, whoever starts it and from whatever queue.

A lineage is repository, branch and folder (`registration.lineage_name`). In one folder a lock file sees to it, which goes
with its process. Among clones and machines it is a limit on Prefect's server, under a name of its own, with a lease: a
process that is killed gives its place back within `LEASE_SECONDS`. A server that starts and ends with one run takes no
lease back, so that such a run counts nothing there: the file is all it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_URL

from goku_core.pipeline.files import lock
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
    workspace = workspace.resolve()  # "." is the same folder: tasks name it in either way
    name = limit_name(workspace)
    file = workspace / ".goku" / "locks" / f"{name.replace('/', '-')}.lock"
    with ExitStack() as held:
        if PREFECT_API_URL.value():
            _make_known(name)
            held.enter_context(concurrency(name, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False))
        held.enter_context(lock(file, owner=stage, waiting=lambda holder: _tell(name, holder)))
        yield


def _make_known(name: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            client.upsert_global_concurrency_limit_by_name(name, 1)
        except ObjectAlreadyExists:  # another run has made it at the same moment
            get_run_logger().debug("limit %s is there", name)
        if client.read_global_concurrency_limit_by_name(name).active_slots:
            get_run_logger().info("another training of %s runs: waiting for it", name)


def _tell(name: str, holder: str) -> None:  # a warning: runs without a server show nothing less
    get_run_logger().warning("another training of %s runs in this folder (%s): waiting for it", name, holder)
