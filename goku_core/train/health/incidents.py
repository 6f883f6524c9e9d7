"""What went wrong in a run, one JSON line each, in `incidents.jsonl` of its scratch folder."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goku_core.pipeline.files import append_json_line, read_json_lines

FILE = "incidents.jsonl"


def record(scratch: Path, kind: str, **facts: Any) -> None:
    """Appends an incident with the time. Numbers that JSON has not (nan, inf) become text."""
    append_json_line(scratch / FILE, {"time": time.time(), "kind": kind, **{k: _plain(v) for k, v in facts.items()}})


def recorded(scratch: Path) -> Iterator[dict[str, Any]]:
    """All incidents so far, oldest first."""
    return read_json_lines(scratch / FILE)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
