"""Work pools and queues of this machine: of processes. Pools that are there are left as they are, whatever their kind."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

QUEUES = {"training": 1}  # runs at once: two trainings of one workspace would only share its cores and its memory


def queue(declared: dict[str, Any]) -> str:
    return declared["work_pool"].get("work_queue_name", "default")


async def make(client: PrefectClient, declared: list[dict[str, Any]]) -> None:
    """What the deployments of prefect.yaml name."""
    for name in dict.fromkeys(one["work_pool"]["name"] for one in declared):
        try:
            await client.read_work_pool(name)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            await client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
        named = {queue(one) for one in declared if one["work_pool"]["name"] == name}
        for limited in [one for one in QUEUES if one in named]:
            try:
                await client.create_work_queue(limited, concurrency_limit=QUEUES[limited], work_pool_name=name)
            except ObjectAlreadyExists:
                continue
