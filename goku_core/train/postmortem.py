"""What became of work that failed: said from what it left on disk, for whoever comes in the morning.

Works for every cell; a training has more to tell (incidents, goodput, the logs of its ranks). Nothing is asked of a server.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from goku_core.pipeline.files import read_json_lines
from goku_core.train import goodput
from goku_core.train.health import incidents

LINES, EXCERPT = 12, 2000  # lines of a trace or a log that are shown, and characters of all of them
SHOWN_INCIDENTS = 8

WHAT_TO_DO = {
    "infrastructure": "The machine, its disk or its network: see the self-check. Then run it again; it goes on at its checkpoint.",
    "data": "Bytes that cannot be read: the message or the run's scratch folder names them. Restore them, then run it again.",
    "numeric": "incidents.jsonl names the bad steps and their samples. Lower the learning rate or the clip norm, or leave the "
    "samples out.",
    "user": "Mend what the message says, then run it again.",
    "unknown": "Read the trace. `goku run` repeats it from its checkpoint.",
}


def last_failure(workspace: Path, run: str = "") -> dict[str, Any] | None:
    """The newest attempt that did not finish, of all or of the driver's run `run`; None where there is none.

    ``kind`` is that of `pipeline.failures`, or "killed" for a process that left no word. A run that was refused, or died
    before any work began, has left no attempt.
    """
    failed = [one for one in _attempts(workspace) if one["end"] is None or one["end"]["event"] == "failed"]
    failed = [one for one in failed if not run or one["start"].get("run") == run]
    if not failed:
        return None
    started, end = failed[-1]["start"], failed[-1]["end"]
    scratch = workspace / ".goku/scratch" / started["fingerprint"]
    ended = _seconds(end["time"]) if end else max((file.stat().st_mtime for file in scratch.rglob("*")), default=None)
    kind = end.get("kind", "unknown") if end else "killed"
    return {
        "cell": started["cell"],
        "fingerprint": started["fingerprint"],
        "attempt": started.get("attempt", 1),
        "run": started.get("run"),
        "started": started["time"],
        "seconds": None if ended is None else round(max(ended - _seconds(started["time"]), 0.0), 1),
        "kind": kind,
        "error": end["error"] if end else None,
        "message": end["message"] if end else "its process left no word: killed, or the machine went away",
        "trace": _tail(end["trace"]) if end else "",
        "to_do": WHAT_TO_DO["infrastructure" if kind == "killed" else kind],
        "scratch": scratch.relative_to(workspace).as_posix() if scratch.is_dir() else None,
        **_of_training(scratch, ended),
    }


def _attempts(workspace: Path) -> list[dict[str, Any]]:
    """Beginnings with their ends, in the order of the beginnings. An attempt that was killed has no end."""
    found: list[dict[str, Any]] = []
    for line in read_json_lines(workspace / ".goku/attempts.jsonl"):
        if line["event"] == "started":
            found.append({"start": line, "end": None})
            continue
        same = [one for one in found if one["start"]["fingerprint"] == line["fingerprint"] and one["end"] is None]
        for one in same[-1:]:
            one["end"] = line
    return found


def _of_training(scratch: Path, ended: float | None) -> dict[str, Any]:
    if not (scratch / "hearts").is_dir() or ended is None:
        return {"goodput": None, "incidents": {}, "last_incidents": [], "logs": {}}
    seen = list(incidents.recorded(scratch))
    spent = goodput.of_run(scratch, ended).model_dump(exclude={"incidents", "cost"})
    logs = {file.name: _tail(file.read_text(errors="replace")) for file in sorted((scratch / "logs").rglob("rank-*"))}
    return {
        "goodput": {name: round(value, 3) for name, value in spent.items()},
        "incidents": dict(Counter(one["kind"] for one in seen)),
        "last_incidents": seen[-SHOWN_INCIDENTS:],
        "logs": {name: text for name, text in logs.items() if text},
    }


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LINES:])[-EXCERPT:]


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
