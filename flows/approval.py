"""Where the gate wants a person, the run waits for one: it is suspended, holds no process, and asks by a form.

Survives restarts of server and worker. When nobody answers in time the run fails and the ledger stays as it is: the
candidate still waits, for `goku promote --approve`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger, suspend_flow_run
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.input import RunInput
from pydantic import Field, create_model

from flows.answers import KEY
from flows.automations import CHALLENGER, SET_ASIDE
from goku_core.promote import ledger

REPORT = "reports/promotion.json"
WAIT_SECONDS = 7 * 24 * 3600  # GOKU_APPROVAL_SECONDS overrules it


def form(report: dict[str, Any]) -> type[RunInput]:
    """Who may answer, as the gate names them: another name is refused by the server, and again by the ledger."""
    names = Literal[tuple(report["approvers"])]
    asked = create_model(
        "Decision",
        __base__=RunInput,
        approve=(bool, Field(description="True: it becomes champion. False: it is declined")),
        by=(names, Field(description="who decides")),
        because=(str, Field(min_length=3, max_length=500, description="why: goes into the ledger")),
    )
    version, reason = report["version"], report["reason"]
    return asked.with_initial_data(description=f"Version {version} waits for approval: {reason}.", approve=False)


def decide(workspace: Path) -> None:
    """After `promote`: ask and wait where its candidate needs a person's word. For use in a flow, after `answered`."""
    report = json.loads((workspace / REPORT).read_text(encoding="utf-8"))
    waiting = [entry for entry in ledger.awaiting(ledger.read(workspace)) if entry.bundle == report["digest"]]
    if not waiting:
        return
    version, context = str(report["version"]), FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        get_run_logger().warning("version %s waits: goku promote --approve %s --by NAME", version, version)
        return  # a run in somebody's shell cannot be put aside
    seconds = int(os.environ.get("GOKU_APPROVAL_SECONDS", WAIT_SECONDS))
    # Told apart from the server's own event, which one that was away meanwhile takes up only after 15 min.
    here = {"prefect.resource.id": f"prefect.flow-run.{context.flow_run.id}"}
    flow = {"prefect.resource.id": f"prefect.flow.{context.flow_run.flow_id}", "prefect.resource.role": "flow"}
    emit_event(SET_ASIDE, resource=here, related=[flow | {"prefect.resource.name": context.flow.name}])
    suspend_flow_run(form(report), timeout=seconds, key=f"{KEY}{waiting[-1].number}")  # from there it begins anew


def announce(workspace: Path) -> None:
    """Tell the server that the ledger has a new challenger, for whoever waits for one (`flows.automations`)."""
    report = json.loads((workspace / REPORT).read_text(encoding="utf-8"))
    if ledger.roles(ledger.read(workspace))["challenger"] == report["digest"]:
        facts = {"goku.version": str(report["version"]), "goku.decision": report["decision"]}
        emit_event(CHALLENGER, resource={"prefect.resource.id": f"goku.model.{report['digest'][:12]}", **facts})
