"""Evaluates a registered model again: its bundle's own bytes, beside the line and without touching it.

The bundle is laid out in a workspace of its own below ``.goku/reevaluations``, where the stage `evaluate` runs as it does
in the line: same code, same records, its own fingerprints. What comes out is a note beside the ledger
(``ledger/reevaluations``), never an entry in it: a ledger holds decisions, and nothing is decided here.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from goku_core import config, tracking
from goku_core.config import Params
from goku_core.pipeline import code, line
from goku_core.pipeline.commit import remove
from goku_core.pipeline.executor import RunTracker, execute
from goku_core.pipeline.files import link, lock, write_json
from goku_core.pipeline.line import Cell

NOTES = "ledger/reevaluations"
PLACE = ".goku/reevaluations"
TASKS = {"t2i": "image_model", "t2v": "video_model", "i2v": "image_to_video_model"}


def reevaluate(workspace: Path, name: str, fresh: bool, today: date | None = None) -> dict[str, Any]:
    """The note that was written, with the file's name as ``note``.

    name   champion, challenger, previous, or a version of the ledger
    fresh  prompts and noise of this day (run seed + days since 1970, so that all models of a day meet the same); False:
           those of the line, which repeats nothing as long as neither bytes nor parameters nor code have changed

    ``holds`` says whether the score is at least the ledger's, less what chance explains (the half-width of the 95 %
    interval of the difference of two independent scores); None where the evaluation is another one by now. Raises
    `GokuError` where there is no such model, its bytes were changed, or the stage fails.
    """
    from goku_core.promote import bundle, evidence, ledger, promotion

    params = config.load_params(workspace / "params.yaml")
    folder, digest = promotion.resolve(workspace, name, params.promote.alias)
    entries = ledger.read(workspace)
    standing = ledger.champion(entries)
    entry = next(e for e in reversed(entries) if e.bundle == digest)
    served = bundle.verify(folder, digest)["lineage"]["phases"]
    seed = params.seed + ((today or datetime.now(UTC).date()) - date(1970, 1, 1)).days if fresh else params.seed
    side = workspace / PLACE / digest[:12]
    with lock(side / "lock", owner="goku evaluate registered"):
        cell = _laid_out(params, folder, side, served, seed)
        execute(cell, side, open_tracker=_tracker(workspace, params), strict=True)
        found = evidence.read(side / evidence.FOLDER)
        summary = evidence.summary_of(side, found.digest)
        remove(side / ".goku/store")  # the newest evaluation stays in reports/, the notes of all of them in the ledger
    judged = SimpleNamespace(fingerprint=summary["judge"]["fingerprint"])
    note = {
        "model": name,
        "version": entry.version,
        "bundle": digest,
        "is": [part for part, held in ledger.roles(entries).items() if held == digest],
        "seed": seed,
        "score": found.score,
        "interval": list(found.interval),
        "protocol": found.protocol,
        "evidence": found.digest,
        "evaluation": (side / evidence.FOLDER).relative_to(workspace).as_posix(),
        "ledger": {"number": entry.number, "score": entry.score, "interval": list(entry.interval)},
        "commit": code.git(workspace) or code.git(code.PACKAGE_ROOT),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    comparable = entry.protocol == _protocol(cell, judged, params.seed)
    note |= _beside(found.score, found.interval, entry.score, entry.interval, comparable)
    if standing is not None and standing.bundle != digest:
        note["champion"] = _beside_champion(workspace, standing.bundle, note)
    file = workspace / NOTES / f"{note['time'].replace(':', '')}-{digest[:12]}.json"
    write_json(file, note)
    return note | {"note": file.relative_to(workspace).as_posix()}


def notes(workspace: Path) -> list[dict[str, Any]]:
    """All notes, oldest first."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted((workspace / NOTES).glob("*.json"))]


def _laid_out(params: Params, folder: Path, side: Path, served: dict[str, str], seed: int) -> Cell:
    """The cell `evaluate` about the bundle's models, with these in their places below `side`."""
    tasks = json.loads((folder / "config.json").read_text(encoding="utf-8"))["tasks"]
    for task, phase in served.items():
        _copy(folder / tasks[task], side / "models" / phase)
    _copy(folder / "vae", side / "models/vae")
    asked = params.evaluate.model_copy(update={key: served.get(task) for task, key in TASKS.items()})
    (cell,) = line.select(line.cells(params.model_copy(update={"evaluate": asked})), ["evaluate"])
    return replace(cell, seed=seed, after=())


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        link(file, target / file.name)


def _tracker(workspace: Path, params: Params) -> Any:
    """Runs of the workspace's own tracking store, told apart from those of the line by their name."""
    opened = tracking.opener(params.tracking)

    def opener(_: Path, cell: Cell, fingerprint: str, attempt: int, driver: str) -> RunTracker:
        return opened(workspace, replace(cell, name="reevaluate"), fingerprint, attempt, driver)

    return opener


def _protocol(cell: Cell, judge: Any, seed: int) -> str:
    from goku_core.evaluate.summary import protocol

    return protocol(cell.request, judge, seed)


def _beside(
    score: float, interval: tuple[float, float], before: float, its: tuple[float, float], comparable: bool
) -> dict[str, Any]:
    if not comparable:
        return {"holds": None, "reason": "evaluated by other rules than the ledger's entry: not comparable"}
    allowed = math.hypot((interval[1] - interval[0]) / 2, (its[1] - its[0]) / 2)
    said = f"score {score:.4f}, the ledger has {before:.4f}; at most {allowed:.4f} below is chance"
    return {"holds": score >= before - allowed, "allowed": allowed, "reason": said}


def _beside_champion(workspace: Path, bundle: str, note: dict[str, Any]) -> dict[str, Any] | None:
    """The champion's newest score on the same prompts and noise; None where it has none."""
    same = [one for one in notes(workspace) if one["bundle"] == bundle and one["protocol"] == note["protocol"]]
    if not same:
        return None
    return {"version": same[-1]["version"], "score": same[-1]["score"], "difference": note["score"] - same[-1]["score"]}
