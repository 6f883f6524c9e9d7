"""What the cells of a plan will need: time, GPUs, money, and room on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from goku_core.costs import machine
from goku_core.costs.prices import PlanRequest
from goku_core.pipeline.commit import Record, Workspace
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.identity import arrangement
from goku_core.pipeline.line import Cell
from goku_core.pipeline.plan import Entry

T5_WIDTH = 2048  # features of a token, flan-t5-xl (paper section 2.1)


@dataclass(frozen=True)
class Foreseen:
    """What a forecast says of a phase of training: s, and bytes of one checkpoint."""

    seconds: float
    checkpoint_bytes: float


# By name of a phase, number of GPUs and their kind in the price table. Raises `GokuError` where they do not fit.
Forecaster = Callable[[str, int, str], Foreseen]


@dataclass(frozen=True)
class Need:
    """Of one cell. None: not known, and the totals say so.

    seconds      expected; 0 where the work has been done
    gpus, gpu    how many GPUs work at once, and their kind in the price table
    money        in the table's currency
    bytes        on disk, most at a time: outputs, and checkpoints while it runs
    basis        where the figures are from
    """

    seconds: float | None
    gpus: int
    gpu: str | None
    gpu_hours: float | None
    money: float | None
    bytes: int | None
    basis: str


def needs(
    entries: Sequence[Entry], line: Sequence[Cell], workspace: Path, plan: PlanRequest, forecaster: Forecaster
) -> list[Need]:
    """One for each entry. A cell that waits for another is counted as if it had to run: more it cannot be."""
    cells = {cell.name: cell for cell in line}
    with Workspace(workspace) as place:
        carried = {record.cell: record for record in place.carried().values()}
        last = carried | {record.cell: record for record in place.records()}
        names = machine.gpus()
        found = []
        for entry in entries:
            if entry.state in ("done", "restore"):
                found.append(Need(0.0, 0, None, 0.0, 0.0, 0, "done"))
            else:
                found.append(_need(cells[entry.cell], last.get(entry.cell), names, place.root, plan, forecaster))
        return found


def _need(
    cell: Cell, last: Record | None, names: Sequence[str], root: Path, plan: PlanRequest, forecaster: Forecaster
) -> Need:
    request = cell.request.model_dump(mode="json")
    gpus = machine.used(cell.stage, request, len(names))
    # Of this machine, else of the one whose time is taken for this work's, else the one to plan with.
    name = names[0] if names else (last.value.get("machine", {}).get("gpu") if last else None)
    kind = machine.kind(name) if names or (name and gpus) else (plan.gpu if gpus else None)
    foreseen, obstacle = None, ""
    if cell.stage == "train" and gpus and not (last and _comparable(last, cell)):
        try:
            if kind is None:
                raise GokuError(f"nothing is known of {name}")
            foreseen = forecaster(cell.name.partition("@")[2], gpus, kind)
        except GokuError as error:
            obstacle = f"; no forecast: {error}"
    if foreseen:
        seconds, basis = foreseen.seconds, f"forecast for {gpus} {kind}"
    elif last:
        scale = _steps(cell.request_json()) / _steps(last.value["request"])
        scale *= _ranks(last.value.get("arrangement", {})) / _ranks(arrangement(cell.request))
        seconds = last.seconds * scale
        basis = "last record" + ("" if scale == 1.0 else f" x {scale:.3g} (steps, ranks)") + obstacle
    else:
        seconds, basis = None, "never done" + obstacle
    hours = None if seconds is None else seconds * gpus / 3600
    money = None if seconds is None else plan.money(hours or 0.0, seconds / 3600, kind)
    return Need(seconds, gpus, kind, hours, money, _bytes(cell, request, last, foreseen, root), basis)


def _comparable(last: Record, cell: Cell) -> bool:
    """Was the same network trained on GPUs?"""
    same = last.value["request"].get("model") == cell.request_json().get("model")
    return same and bool(last.value.get("machine", {}).get("gpus"))


def _ranks(how: Mapping[str, Any]) -> int:
    """Ranks of a training by its arrangement; 1 for other cells. Twice as many are taken to need half the time."""
    return how.get("parallel.nodes", 1) * how.get("parallel.ranks_per_node", 1)


def _steps(request: Mapping[str, Any]) -> float:
    """Steps times tokens of the only phase of a training cell, which its time is in proportion to; 1 for other cells."""
    phases = [one for one in request.get("phases", {}).values() if isinstance(one, Mapping)]
    return float(phases[0]["steps"] * phases[0]["tokens"]) if len(phases) == 1 and "tokens" in phases[0] else 1.0


def _bytes(
    cell: Cell, request: Mapping[str, Any], last: Record | None, foreseen: Foreseen | None, root: Path
) -> int | None:
    """Outputs as they were last time (else by what the request says), and while training the checkpoints that are kept."""
    outputs: float | None = None
    if foreseen:
        outputs = foreseen.checkpoint_bytes
    elif last:
        outputs = sum(tree.bytes for tree in last.outputs.values())
    elif cell.stage == "precompute":
        outputs = _latents(cell, root)
    elif cell.stage == "curate":  # transcodes, at most as large as what they are made of
        raw = root / "data/raw"
        outputs = sum(file.stat().st_size for file in raw.rglob("*") if file.is_file()) if raw.is_dir() else None
    if outputs is None:
        return None
    if cell.stage == "train" and "checkpoint" in request:
        # One more than are kept: the newest is whole before the oldest goes.
        outputs *= 1 + request["checkpoint"]["keep"] + 1
    return round(outputs)


def _latents(cell: Cell, root: Path) -> float | None:
    """Bytes of all shards at most: every kept clip long enough, every caption as long as it may be. 2 bytes a value, latents
    of 16 channels."""
    table = root / "data/clips.parquet"
    if not table.is_file():
        return None
    import pyarrow.parquet as pq

    rows = pq.read_table(table, columns=["kind", "outcome"]).to_pylist()
    kept = [row["kind"] for row in rows if row["outcome"] == "kept"]
    images = sum(kind == "image" for kind in kept)
    clips, total, request = len(kept) - images, 0.0, cell.request
    caption = request.text.max_tokens * (request.text.width if request.text.kind == "words" else T5_WIDTH) * 2
    windows = clips * request.windows_per_clip
    for resolution in request.resolutions.values():
        frame = resolution.height // 8 * (resolution.width // 8) * 16 * 2
        total += (frame + caption) * (images + clips * request.pictures_per_clip) * resolution.images
        total += (frame * ((resolution.frames - 1) // 4 + 1) + caption) * windows * resolution.clips
    return total


@dataclass(frozen=True)
class Totals:
    """Sums over what is known; `unknown`: cells that have no figure.

    free_bytes     on the file system of the workspace; `fits`: what is known of has room there
    storage_month  price of keeping for a month what will be written
    """

    seconds: float
    gpu_hours: float
    money: float
    currency: str
    bytes: int
    free_bytes: int
    fits: bool
    storage_month: float
    unknown: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def totals(entries: Sequence[Entry], found: Sequence[Need], workspace: Path, plan: PlanRequest) -> Totals:
    """Of a plan."""
    size = sum(need.bytes or 0 for need in found)
    free = shutil.disk_usage(workspace).free
    return Totals(
        seconds=sum(need.seconds or 0.0 for need in found),
        gpu_hours=sum(need.gpu_hours or 0.0 for need in found),
        money=sum(need.money or 0.0 for need in found),
        currency=plan.prices.currency,
        bytes=size,
        free_bytes=free,
        fits=size <= free,
        storage_month=size / 1e9 * plan.prices.storage_gb_month,
        unknown=tuple(e.cell for e, need in zip(entries, found, strict=True) if need.money is None),
    )


def over_budget(budget: str, total: Totals) -> str | None:
    """Why a plan is over a budget: money (``500``), or GPU-hours (``200h``). None: it is within.

    A cell without a figure is over any budget: nobody can say that it is not. Raises `GokuError` for what is no budget.
    """
    hours = budget.endswith("h")
    try:
        limit = float(budget.removesuffix("h"))
    except ValueError:
        raise GokuError(f"--budget {budget}: give money (500) or GPU-hours (200h).") from None
    if total.unknown:
        return f"what {', '.join(total.unknown)} will cost is not known"
    spent = total.gpu_hours if hours else total.money
    unit = "GPU-hours" if hours else total.currency
    return f"{spent:,.2f} {unit} are more than {limit:,.2f}" if spent > limit else None
