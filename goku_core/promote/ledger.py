"""The ledger: which model was champion, since when, on what evidence. Append-only JSON files in a hash chain.

``ledger/000001.json``, ``000002.json``, ... Each entry names the SHA-256 of the file before it, so an entry that is
edited, removed or put in later breaks the chain. An entry appears whole or not at all, and exactly one writer can
get a number: the file is written and synced under another name, then linked to its own, which fails where that
name exists. A registry alias has neither history nor compare-and-set; this has both.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import write_json

FOLDER = "ledger"
ATTEMPTS = 20

GATES = "gates"

Decision = Literal["promoted", "refused", "awaiting", "rolled-back"]


class Entry(BaseModel):
    """One decision. `bundle`: digest of the bundle decided about (rolled-back: the one that is champion again)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    previous: str | None  # SHA-256 of the entry before; null for the first
    decision: Decision
    version: int  # of the bundle: counts distinct bundles in order of their first entry
    bundle: str
    champion: str | None  # bundle that is champion once this entry is written
    against: str | None  # champion the decision was taken against
    score: float
    interval: tuple[float, float]  # 95 % interval of the score
    protocol: str | None  # names the benchmark: scores of two protocols are not comparable
    evidence: str  # SHA-256 of reports/evaluation/summary.json
    reason: str
    time: str  # UTC, ISO 8601
    by: str
    gate: str | None = None  # SHA-256 of the rules in ledger/gates; null: by hand, or before rules were kept
    answers: int | None = None  # number of the awaiting entry that this one approves or declines
    kept: bool = True  # false: the evidence is about other bytes, so there is no bundle of that digest


class Draft(BaseModel):
    """An entry before the ledger gives it number, version, chain, time and name."""

    decision: Decision
    bundle: str
    champion: str | None
    against: str | None
    score: float
    interval: tuple[float, float]
    protocol: str | None
    evidence: str
    reason: str
    by: str | None = None  # who decided; null: git's user
    gate: str | None = None
    answers: int | None = None
    kept: bool = True


def read(workspace: Path, verify: bool = True) -> list[Entry]:
    """All entries, oldest first (an empty list where there is no ledger).

    Raises GokuError where an entry cannot be parsed and, with `verify`, where the numbering has a gap or an entry is
    not the one that its follower was written after.
    """
    entries: list[Entry] = []
    digest: str | None = None
    for expected, path in enumerate(_files(workspace), start=1):
        content = path.read_bytes()
        try:
            entry = Entry.model_validate_json(content)
        except ValidationError as error:
            raise GokuError(f"{path}: not a ledger entry ({error.error_count()} faults). {_MEND}") from error
        if verify:
            if entry.number != expected or path.name != _name(expected):
                raise GokuError(f"{path}: entry {expected} of the ledger is missing. {_MEND}")
            if entry.previous != digest:
                raise GokuError(f"{path}: the entry before it was changed after it had been written. {_MEND}")
        digest = hashlib.sha256(content).hexdigest()
        entries.append(entry)
    return entries


_MEND = "Restore the ledger folder from a copy; entries are never edited by hand."


def head(workspace: Path) -> str | None:
    """SHA-256 of the newest entry: names the state of the whole ledger. None where it is empty."""
    files = _files(workspace)
    return hashlib.sha256(files[-1].read_bytes()).hexdigest() if files else None


def knows(workspace: Path, digest: str) -> bool:
    """Is there an entry with that SHA-256? A registry that saw one which is gone stands beside a ledger that was cut."""
    return any(hashlib.sha256(path.read_bytes()).hexdigest() == digest for path in _files(workspace))


def append(workspace: Path, decide: Callable[[list[Entry]], Draft | None]) -> Entry | None:
    """Write what `decide` makes of the ledger as it stands; None from it writes nothing.

    When another writer gets the number first, `decide` is asked again with that writer's entry in view, so a
    decision is never recorded against a champion that has been replaced meanwhile.
    """
    for _ in range(ATTEMPTS):
        entries = read(workspace)
        draft = decide(entries)
        if draft is None:
            return None
        entry = Entry(
            number=len(entries) + 1,
            previous=head(workspace),
            version=version_of(entries, draft.bundle),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            by=draft.by or _who(workspace),
            **draft.model_dump(exclude={"by"}),
        )
        if _publish(workspace, entry):
            return entry
    raise GokuError(f"{workspace / FOLDER}: other processes kept writing to the ledger. Run the command again.")


def version_of(entries: list[Entry], bundle: str) -> int:
    """Version number of a bundle: the one it has, or the next free one."""
    known = {entry.bundle: entry.version for entry in entries}
    return known.get(bundle, max(known.values(), default=0) + 1)


def champions(entries: list[Entry]) -> list[Entry]:
    """The line of champions, the present one last: a promotion adds to it, a rollback cuts back to its target.

    A bundle is represented by the entry that promoted it. A rollback to one that an earlier rollback had cut off
    puts it on top again.
    """
    line: list[Entry] = []
    promotions: dict[str, Entry] = {}
    for entry in entries:
        if entry.decision == "promoted":
            promotions[entry.bundle] = entry
            line.append(entry)
        elif entry.decision == "rolled-back":
            standing = [place for place, earlier in enumerate(line) if earlier.bundle == entry.bundle]
            line = line[: standing[-1] + 1] if standing else [*line, promotions[entry.bundle]]
    return line


def champion(entries: list[Entry]) -> Entry | None:
    line = champions(entries)
    return line[-1] if line else None


def awaiting(entries: list[Entry]) -> list[Entry]:
    """Entries that wait for a person, oldest first: nothing has been decided about their bundle since."""
    newest = {entry.bundle: entry for entry in entries}
    return [entry for entry in newest.values() if entry.decision == "awaiting"]


def roles(entries: list[Entry]) -> dict[str, str | None]:
    """Which bundle has which part: `champion`, `previous`, and `challenger`: of the candidates since the last change of
    champion the newest that waits for approval, else the newest refused whose bundle was kept."""
    line = champions(entries)
    standing = line[-1].bundle if line else None
    previous = line[-2].bundle if len(line) > 1 else None
    changed = max((e.number for e in entries if e.decision in ("promoted", "rolled-back")), default=0)
    later = [e for e in entries if e.number > changed and e.bundle != standing]
    waiting = [e.bundle for e in awaiting(later)]
    refused = [e.bundle for e in later if e.decision == "refused" and e.kept]
    return {"champion": standing, "previous": previous, "challenger": ([None, *refused, *waiting])[-1]}


def gate_digest(rules: Mapping[str, Any]) -> str:
    """SHA-256 of a gate's rules as they are kept in ledger/gates."""
    return hashlib.sha256((json.dumps(rules, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()).hexdigest()


def keep_gate(workspace: Path, rules: Mapping[str, Any]) -> str:
    """Keep a gate's rules beside the entries, named by their SHA-256, which is returned."""
    digest = gate_digest(rules)
    place = _gate(workspace, digest)
    if not place.is_file() or hashlib.sha256(place.read_bytes()).hexdigest() != digest:
        write_json(place, dict(rules))
    return digest


def _gate(workspace: Path, digest: str) -> Path:
    return workspace / FOLDER / GATES / f"{digest}.json"


def faults_of_gates(workspace: Path, entries: list[Entry]) -> list[str]:
    """Where the rules that entries were decided by are gone or were changed."""
    faults = []
    for digest in dict.fromkeys(entry.gate for entry in entries if entry.gate):
        place = _gate(workspace, digest)
        numbers = ", ".join(str(entry.number) for entry in entries if entry.gate == digest)
        if not place.is_file():
            faults.append(f"{place}: the rules of entries {numbers} are missing")
        elif hashlib.sha256(place.read_bytes()).hexdigest() != digest:
            faults.append(f"{place}: the rules of entries {numbers} were changed after the decision")
    return faults


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _files(workspace: Path) -> list[Path]:
    folder = workspace / FOLDER
    return sorted(p for p in folder.glob("*.json") if p.stem.isdigit()) if folder.is_dir() else []


def _publish(workspace: Path, entry: Entry) -> bool:
    """Make the entry visible under its number; False where that number is taken."""
    folder = workspace / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(entry.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    handle, partial = tempfile.mkstemp(prefix=".entry-", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o444)
        try:
            os.link(partial, folder / _name(entry.number))
        except FileExistsError:
            return False
    finally:
        Path(partial).unlink()
    _sync_folder(folder)
    return True


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, not only the bytes behind it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _who(workspace: Path) -> str:
    try:
        answer = subprocess.run(
            ["git", "config", "user.name"], cwd=workspace, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"
