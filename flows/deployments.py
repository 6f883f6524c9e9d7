"""Deployments of prefect.yaml, registered: `python -m flows.deployments` (what `goku up` starts).

prefect.yaml is the truth for this and for `prefect deploy --all`. What it cannot hold is added here: forms from
params.yaml, the workspace that a run works in, commit and version of the dataset as tags, and the automations.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore

from flows import automations, pools
from flows.forms import entry, form
from flows.schedules import wanted
from goku_core.pipeline.errors import GokuError
from goku_core.services.registration import basis, declaration


async def register(workspace: Path, switch: bool | None = None) -> list[str]:
    """Create or renew pools, queues, deployments and automations on the server of PREFECT_API_URL; names of deployments.

    switch  schedules on or off; None: as they are
    """
    facts, made = basis(workspace), {}
    declared = yaml.safe_load(declaration(workspace).read_text(encoding="utf-8"))["deployments"]
    async with get_client() as client:
        await pools.make(client, declared)
        for one in declared:
            flow = entry(one["entrypoint"])
            name = f"{flow.name}/{one['name']}"
            marks = [f"{key}:{facts[key]}" for key in ("commit", "dataset") if facts[key]]
            made[name] = await client.create_deployment(
                flow_id=await client.create_flow_from_name(flow.name),
                name=one["name"],
                version=facts["commit"],
                entrypoint=one["entrypoint"],
                description=(flow.description or "").partition("\n")[0],
                tags=[*one.get("tags", []), *marks],
                work_pool_name=one["work_pool"]["name"],
                work_queue_name=pools.queue(one),
                concurrency_limit=one.get("concurrency_limit"),
                parameter_openapi_schema=form(flow, facts),
                enforce_parameter_schema=True,
                job_variables={**one["work_pool"].get("job_variables", {}), "working_dir": str(workspace)},
                schedules=await wanted(client, name, one.get("schedules", []), switch),
            )
        await rules(client, made)
    return list(made)


async def rules(client: PrefectClient, deployments: Mapping[str, UUID]) -> None:
    """Make every automation, or renew one that has changed; one that was switched off stays off."""
    for rule in automations.automations(deployments):
        standing, *_ = await client.read_automations_by_name(rule.name) or [None]
        if standing is None:
            await client.create_automation(rule)
            continue
        if (standing.trigger, standing.actions) != (
            rule.trigger,
            rule.actions,
        ):  # renewed, it forgets whom it waits for
            # All values are said, also those left at their defaults: the server takes no half of a rule.
            said = rule.model_dump(exclude={"owner_resource"}) | {"enabled": standing.enabled}
            await client.update_automation(standing.id, AutomationCore(**said))


if __name__ == "__main__":
    where, how = Path(*sys.argv[1:2]).resolve(), {"--schedules": True, "--no-schedules": False}
    try:
        print("\n".join(asyncio.run(register(where, how.get(sys.argv[-1])))))
    except GokuError as error:
        sys.exit(str(error))
