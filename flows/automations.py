"""What happens by itself: rules on Prefect's server, made from code with the deployments. Seen and switched on its page.

The open server has no rule for dead runs: one whose process and worker are gone would be shown as running for ever.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import get_current_settings
from prefect.states import StateType

TRAINING = ["line", "vae", "train", "tune"]  # flows; others on the same server have heartbeats of their own pace
FLOWS = [*TRAINING, "collect", "curate", "precompute", "evaluate", "promote", "reevaluate", "drill"]
CHALLENGER = "goku.challenger.entered"  # event: the ledger has a new challenger
SET_ASIDE = "goku.run.set-aside"  # event: a run waits for a person and sends no heartbeats
SILENCE = "GOKU_DEAD_RUN_SECONDS"
HEARTBEAT = "prefect.flow-run.heartbeat"
# Whatever follows a heartbeat of a run that lives, or that has ended or left in order.
SIGNS = {HEARTBEAT, SET_ASIDE} | {
    f"prefect.flow-run.{state}"
    for state in ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Suspended", "Paused", "AwaitingRetry")
}


def silence_seconds() -> float:
    """How long a run may say nothing: three heartbeats, and never less than one and the time to send it."""
    beat = get_current_settings().flows.heartbeat_frequency or 30
    return max(float(os.environ.get(SILENCE, 3 * beat)), beat + 5.0)


def automations(deployments: Mapping[str, UUID]) -> list[AutomationCore]:
    """All rules. deployments: name (drill/local) -> id."""
    dead = EventTrigger(
        posture=Posture.Proactive,
        after={HEARTBEAT},
        expect=SIGNS,
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": FLOWS},
        for_each={"prefect.resource.id"},
        within=timedelta(seconds=silence_seconds()),
    )
    message = f"no heartbeat for {silence_seconds():.0f} s: its process is gone. Run it again: finished work is kept"
    failed = EventTrigger(
        expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": TRAINING},
        for_each={"prefect.resource.id"},
    )
    failing = {"run": {"__prefect_kind": "jinja", "template": "{{ flow_run.id }}"}}
    drill = RunDeployment(deployment_id=deployments["drill/local"], parameters=failing)
    entered = EventTrigger(expect={CHALLENGER}, for_each={"prefect.resource.id"})
    again = RunDeployment(deployment_id=deployments["reevaluate/local"], parameters={"model": "challenger"})
    return [
        AutomationCore(name=f"goku: {name}", description="docs/team.md", trigger=trigger, actions=[action])
        for name, trigger, action in (
            ("dead run", dead, ChangeFlowRunState(state=StateType.CRASHED, message=message)),
            ("failed training", failed, drill),
            ("new challenger", entered, again),
        )
    ]
