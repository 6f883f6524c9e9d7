"""Schedules of prefect.yaml on the server: declared there, switched on by `goku up --schedules` or on the page."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound


async def wanted(
    client: PrefectClient, deployment: str, declared: list[dict[str, Any]], switch: bool | None
) -> list[DeploymentScheduleCreate]:
    """What the deployment is to have. Active by the switch; without one as it is on the server; else as declared."""
    try:
        standing = {one.slug: one.active for one in (await client.read_deployment_by_name(deployment)).schedules}
    except ObjectNotFound:
        standing = {}
    return [
        DeploymentScheduleCreate(
            slug=one["slug"],
            schedule=CronSchedule(cron=one["cron"], timezone=one["timezone"]),
            active=standing.get(one["slug"], one["active"]) if switch is None else switch,
            parameters=one.get("parameters", {}),
        )
        for one in declared
    ]
