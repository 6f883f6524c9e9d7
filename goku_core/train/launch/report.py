"""The last word of a launch that gives up: what, where, what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from goku_core.train.launch.failures import Failure

REMEDIES = {
    "crash": "Read the end of that rank's log. Out of memory: lower the phase's pack_tokens, or shard over more ranks. A machine's "
    "fault: `goku drill --self-check` there.",
    "hang": "Read the stacks: the rank named hangs where its file says, the others wait for it. If the step was merely long, raise "
    "train.faults.hang_factor or the limit of that phase.",
    "preemption": "Run the same command again once the machines are there.",
    "node bad": "Take the machine named out, or mend it; `goku drill --self-check` examines it. Then run the same command again.",
    "data bad": "The samples that cannot be read are listed in the run's scratch folder. Restore or publish their shards again.",
    "diverged": "incidents.jsonl lists the bad steps and their samples. Lower the learning rate or the clip norm, or take the "
    "samples out.",
    "refused": "Mend what the message says, then run the same command again.",
}


def final_report(failure: Failure, why: str, failures: Sequence[Failure], scratch: Path) -> str:
    """Plain text. The run itself is not lost: its newest valid checkpoint is where the next command continues."""
    where = [f"node {failure.node}" + (f" ({failure.host})" if failure.host else "")]
    where += [f"rank {failure.rank}"] if failure.rank is not None else []
    where += [f"after step {failure.step}"] if failure.step is not None else []
    saved = max((one.progress for one in failures), default=-1)
    lines = [
        "training stopped",
        f"  what     {failure.kind}: {failure.message}",
        f"  where    {', '.join(where)}",
        f"  why now  {why}",
        f"  saved    {'nothing in this launch' if saved < 0 else f'up to step {saved}'}",
        f"  files    {scratch}/logs, stacks, incidents.jsonl",
        f"  to do    {REMEDIES[failure.kind]}",
    ]
    if len(failures) > 1:
        lines.append("  before   " + "; ".join(f"{one.kind} after step {one.step}" for one in failures[-6:-1]))
    if failure.excerpt:
        lines += ["  excerpt", textwrap.indent(failure.excerpt[-1500:], "    | ")]
    return "\n".join(lines)
