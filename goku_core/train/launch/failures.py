"""What ended an attempt: its class, the rank that began it, and the same failure recognised when it comes again."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from goku_core.train.health.errors import PREEMPTED

# refused: a condition that the user must mend (`GokuError`); a restart would meet it again
Kind = Literal["crash", "hang", "preemption", "node bad", "data bad", "diverged", "refused"]
# Errors of ranks that lost another one: never the cause while any other error is known.
VICTIM = re.compile(
    r"connection (lost|closed|reset|refused)|broken pipe|peer|gloo|nccl|timed out|timeout|socket|store|distbackend",
    re.IGNORECASE,
)
EXCERPT = 2000  # characters of a log's end that a report shows


@dataclass(frozen=True)
class Failure:
    """rank, step: where it began, None where nobody knows. message: one line. excerpt: the end of its log, or its stack.

    at        wall clock when the launcher noticed
    waited    seconds between the last sign of life of that rank and `at`
    progress  newest saved step of the attempt, -1: none
    node      number of the node; host: its name
    """

    kind: Kind
    message: str
    rank: int | None = None
    step: int | None = None
    excerpt: str = ""
    at: float = 0.0
    waited: float | None = None
    progress: int = -1
    node: int = 0
    host: str = ""

    @property
    def signature(self) -> tuple[str, int | None, str]:
        """Equal for the same failure met again: numbers and addresses in the message do not count."""
        return self.kind, self.step, re.sub(r"0x[0-9a-f]+|\d+", "#", self.message)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Ending:
    """How one rank ended. code: exit code, below 0 the signal that ended it; killed: the launcher did that."""

    rank: int
    code: int
    killed: bool = False
    log: Path | None = None
    error: Mapping[str, Any] | None = None  # what the rank wrote of itself, see `member`


def cause(endings: Iterable[Ending]) -> tuple[Kind, int | None, str, str] | None:
    """(class, rank, message, excerpt) of the ending that began it all; None where all ranks ended well.

    A rank that died of a signal nobody of ours sent comes first, then the earliest error of a rank's own, then losing another
    rank: what the others report after one is gone.
    """
    bad = [one for one in endings if one.code != 0 and not one.killed]
    for one in bad:
        if one.code < 0 and -one.code != signal.SIGTERM:
            name = signal.Signals(-one.code).name
            hint = " (often: the machine ran out of memory)" if name == "SIGKILL" else ""
            return "crash", one.rank, f"the rank was ended by {name}{hint}", _tail(one)
    told = sorted((one for one in bad if one.error), key=lambda one: one.error["time"])
    own = [one for one in told if not _is_victim(one)]
    left = [one.code for one in bad]
    if left and not own and (PREEMPTED in left or all(code == -signal.SIGTERM for code in left)):
        return "preemption", None, "the ranks were asked to leave", ""
    for first in own or told:
        return first.error["class"], first.rank, first.error["message"], first.error["trace"][-EXCERPT:].strip()
    for one in bad:
        how = f"signal {signal.Signals(-one.code).name}" if one.code < 0 else f"exit code {one.code}"
        return "crash", one.rank, f"the rank ended with {how} and left no word", _tail(one)
    return None


def read_error(path: Path) -> dict[str, Any] | None:
    """What a rank left about itself; None where it left nothing, or nothing whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found["goku"]
    except (OSError, ValueError, KeyError):
        return None


def _is_victim(ending: Ending) -> bool:
    error = ending.error or {}
    return error.get("class") == "crash" and bool(VICTIM.search(f"{error.get('type', '')}: {error.get('message', '')}"))


def _tail(ending: Ending) -> str:
    if ending.log is None or not ending.log.is_file():
        return ""
    with ending.log.open("rb") as file:
        file.seek(max(0, ending.log.stat().st_size - EXCERPT))
        return file.read().decode(errors="replace").strip()
