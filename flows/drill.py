"""The flow after a failed training: what became of it, whether this machine is well, and where wanted a drill of faults."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.forms import inside
from flows.scores import plain
from goku_core.pipeline.errors import GokuError, StageFailed

COMMAND = [sys.executable, "-m", "goku_core.cli", "drill"]
Fault = Literal[
    "kill-one", "kill-all", "hang", "slow", "corrupt-checkpoint", "truncated-shard", "full-disk", "store-away",
    "tracker-away", "sigterm", "nan-gradient",
]  # fmt: skip


@flow(name="drill", flow_run_name="drill")
def drill(run: str = "", faults: list[Fault] | None = None, workspace: str = ".") -> dict[str, Any]:
    """Report a failed run and examine the machine; with faults, inject them into a small training and measure recovery.

    Args:
        run: id of a failed flow run; left empty: the newest failure of this workspace.
        faults: faults to inject, minutes each; none: only report and self-check.
        workspace: folder that holds params.yaml.
    """
    place, told = str(inside(workspace)), {}
    if run or not faults:
        # A run that was refused, or died before any work began, has left nothing: the newest failure is told instead.
        told["failure"] = asked("post-mortem", ["--post-mortem", *(["--run", run] if run else [])], place)
        create_markdown_artifact(report(told["failure"]), key="post-mortem")
    told["machine"] = asked("self-check", ["--self-check"], place)
    create_table_artifact(told["machine"], key="self-check", description="Is this machine fit for training?")
    if faults:
        told["faults"] = asked("faults", [word for fault in faults for word in ("--only", fault)], place)
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


def report(failure: dict[str, Any] | None) -> str:
    """Markdown. What comes from logs and messages is data: no markup of it counts."""
    if failure is None:
        return "Nothing has failed in this workspace that left a trace."
    told = {key: plain(str(failure[key])) for key in ("cell", "kind", "message", "to_do")}
    lines = [f"# {told['cell']} failed: {told['kind']}", told["message"], f"**To do:** {told['to_do']}", ""]
    lines += [f"- attempt {failure['attempt']}, begun {failure['started'][:19]} UTC, {failure['seconds']} s"]
    lines += [f"- scratch: {failure['scratch']}"] if failure["scratch"] else []
    lines += [f"- {name}: {count}" for name, count in failure["incidents"].items()]
    if spent := failure["goodput"]:
        lines += ["", "| goodput | |", "|---|---|", *(f"| {name} | {value} |" for name, value in spent.items())]
    for name, text in {"trace": failure["trace"], **failure["logs"]}.items():
        lines += ["", f"## {name}", "", *(f"    {line}" for line in text.splitlines())] if text else []
    return "\n".join(lines)
