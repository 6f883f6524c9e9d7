"""Deployments of prefect.yaml, registered: `python -m flows.deployments` (what `goku up` starts).

prefect.yaml is the truth for this and for `prefect deploy --all`. What it cannot hold is added here: forms from
params.yaml, the workspace that a run works in, commit and version of the dataset as tags.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from flows.forms import entry, form
from goku_core.pipeline.errors import GokuError
from goku_core.services.registration import basis, declaration

QUEUES = {"training": 1}  # runs at once: two trainings of one workspace would only share its cores and its memory


async def register(workspace: Path) -> list[str]:
    """Create or renew pools, queues and deployments on the server of PREFECT_API_URL; names of the deployments."""
    facts, names = basis(workspace), []
    declared = yaml.safe_load(declaration(workspace).read_text(encoding="utf-8"))["deployments"]
    async with get_client() as client:
        for pool in dict.fromkeys(one["work_pool"]["name"] for one in declared):
            await _pool(client, pool, [q for q in QUEUES if any(_queue(one) == q for one in declared)])
        for one in declared:
            flow = entry(one["entrypoint"])
            marks = [f"{key}:{facts[key]}" for key in ("commit", "dataset") if facts[key]]
            await client.create_deployment(
                flow_id=await client.create_flow_from_name(flow.name),
                name=one["name"],
                version=facts["commit"],
                entrypoint=one["entrypoint"],
                description=(flow.description or "").partition("\n")[0],
                tags=[*one.get("tags", []), *marks],
                work_pool_name=one["work_pool"]["name"],
                work_queue_name=_queue(one),
                concurrency_limit=one.get("concurrency_limit"),
                parameter_openapi_schema=form(flow, facts),
                enforce_parameter_schema=True,
                job_variables={"working_dir": str(workspace)},
            )
            names.append(f"{flow.name}/{one['name']}")
    return names


def _queue(declared: dict[str, Any]) -> str:
    return declared["work_pool"].get("work_queue_name", "default")


async def _pool(client: PrefectClient, name: str, queues: list[str]) -> None:
    try:
        await client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        await client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
    for queue in queues:
        try:
            await client.create_work_queue(queue, concurrency_limit=QUEUES[queue], work_pool_name=name)
        except ObjectAlreadyExists:
            continue


if __name__ == "__main__":
    try:
        print("\n".join(asyncio.run(register(Path(*sys.argv[1:2]).resolve()))))
    except GokuError as error:
        sys.exit(str(error))
