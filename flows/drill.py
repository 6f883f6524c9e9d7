"""The flow after a failed training: what became of it, whether this machine is well, and where wanted a drill of faults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows.forms import inside
from flows.postmortem import report
from goku_core.pipeline.errors import GokuError, StageFailed

COMMAND = [sys.executable, "-m", "goku_core.cli", "drill"]
Run = Annotated[str, Field(pattern=r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$")]
Fault = Literal[
    "kill-one", "kill-all", "hang", "slow", "corrupt-checkpoint", "truncated-shard", "full-disk", "store-away",
    "tracker-away", "sigterm", "nan-gradient",
]  # fmt: skip


@flow(name="drill", flow_run_name="drill")
def drill(run: Run = "", faults: list[Fault] | None = None, workspace: str = ".") -> dict[str, Any]:
    """Report a failed run and examine the machine; with faults, inject them into a small training and measure recovery.

    Args:
        run: id of a failed flow run; left empty: the newest failure of this workspace.
        faults: faults to inject, minutes each; none: only report and self-check.
        workspace: folder that holds params.yaml.
    """
    place, told = inside(workspace), {}
    kept = kept_at(place, run) if run else None
    if kept and kept.is_file():  # Prefect's rules fire at least once, now and then twice
        return told | {"reported": kept.relative_to(place).as_posix()}
    if run or not faults:
        told["failure"] = asked("post-mortem", ["--post-mortem", *(["--run", run] if run else [])], str(place))
        create_markdown_artifact(written := report(told["failure"]), key="post-mortem")
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(written, encoding="utf-8")
    told["machine"] = asked("self-check", ["--self-check"], str(place))
    create_table_artifact(told["machine"], key="self-check", description="Is this machine fit for training?")
    if faults:
        told["faults"] = asked("faults", [word for fault in faults for word in ("--only", fault)], str(place))
        create_table_artifact(told["faults"], key="drill", description="Faults injected, and what became of them.")
    bad = [f"{one['what']}: {one['found']}" for one in told["machine"] if not one["ok"]]
    bad += [f"fault {one['fault']}: {one['note']}" for one in told.get("faults", []) if one["outcome"] == "fail"]
    if bad:
        raise GokuError("this machine is not fit for training: " + "; ".join(bad))
    return told


@task(task_run_name="{what}", cache_policy=NO_CACHE)
def asked(what: str, words: list[str], workspace: str) -> Any:
    """The JSON that `goku drill` prints. Raises `GokuError` where it refuses, `StageFailed` where it dies."""
    done = subprocess.run([*COMMAND, *words, "--json"], cwd=workspace, stdout=subprocess.PIPE, text=True, check=False)
    if done.stdout.strip():
        return json.loads(done.stdout)
    if done.returncode == 2:
        raise GokuError(f"{what}: refused, see the message above.")
    raise StageFailed(f"{what}: its process ended with {done.returncode}, see above.", retriable=True)


def kept_at(workspace: Path, run: str) -> Path:
    """Where the report about a flow run lies. Raises `GokuError` for what is no id of a run."""
    try:
        return workspace / ".goku/post-mortems" / f"{UUID(run)}.md"
    except ValueError as error:
        raise GokuError(f"run {run!r} is no id of a flow run: goku status --services shows the last ones.") from error
