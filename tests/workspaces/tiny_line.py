"""A line of five quick cells for tests of the pipeline: real files, real inputs, a body that counts its steps.

source ---> split (folder) ---> join (file and folder) ---> train@one ---> train@two ---> close
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field

from goku_core.costs import PlanRequest
from goku_core.pipeline.context import Context
from goku_core.pipeline.line import Cell, wire
from goku_core.pipeline.pool import run_operator
from goku_core.tracking import Request as TrackingRequest


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = "text"
    steps: int = Field(default=1, ge=1)
    step_seconds: float = 0.0
    folder: bool = False
    map_rows: int = Field(default=0, description="rows of a big map that the body runs, for tests of its drivers")
    output: str
    log: str = Field(default="", description="a second output: a folder with the curve of the steps")
    reads: list[str] = []


class Report(BaseModel):
    steps_done: int


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seed: int = 0
    split: str = "a"
    join: str = "b"
    phases: dict[str, str] = {"one": "c", "two": "d"}
    close: str = "e"
    steps: int = 1
    step_seconds: float = 0.0
    map_rows: int = 0
    tracking: TrackingRequest = TrackingRequest()
    plan: PlanRequest = PlanRequest()


def load_params(path: str | Path = "params.yaml", changes: dict[str, object] | None = None) -> Params:
    return Params.model_validate(yaml.safe_load(Path(path).read_text()) | (changes or {}))


def cells(params: Params) -> list[Cell]:
    def cell(name: str, text: str, reads: list[str], output: str, folder: bool = False) -> Cell:
        request = Request(text=text, steps=params.steps, step_seconds=params.step_seconds, folder=folder,
                          map_rows=params.map_rows if name == "split" else 0, output=output, reads=reads,
                          log="data/log" if name == "join" else "")  # fmt: skip
        stage = name.split("@")[0]
        outputs = (output, request.log) if request.log else (output,)
        return Cell(name, stage, request, tuple(reads), outputs, seed=params.seed, room="tiny_line")

    line = [cell("split", params.split, ["source.txt"], "data/parts", folder=True),
            cell("join", params.join, ["data/parts"], "data/joined.txt")]  # fmt: skip
    before = "data/joined.txt"
    for name, text in params.phases.items():
        line.append(cell(f"train@{name}", text, [before], f"models/{name}.txt"))
        before = f"models/{name}.txt"
    return wire([*line, cell("close", params.close, [before], "reports/end.txt")])


def run(request: Request, context: Context) -> Report:
    """Write the text of the inputs and one's own; every step is kept in scratch, so that a killed body goes on."""
    with (context.workspace / "bodies.log").open("a") as log:
        log.write(f"{request.output}\n")
    kept = context.scratch / "steps.txt"
    done = len(kept.read_text().splitlines()) if kept.exists() else 0
    for number in range(done + 1, request.steps + 1):
        step(request, context, number)
        with kept.open("a") as file:
            file.write(f"{number}\n")
    if request.map_rows:
        _map(request.map_rows, context)
    before = ""
    for path in request.reads:
        place = context.input(path)
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        before += "".join(file.read_text() for file in files)
    output = context.output(request.output)
    if request.folder:
        output.mkdir()
        for i, word in enumerate(f"{before} {request.text}".split()):
            (output / f"{i}.txt").write_text(word)
    else:
        output.write_text(f"{before} {request.text} {request.steps}\n")
    if request.log:
        context.output(request.log).mkdir()
        curve = (json.dumps({"step": step, "loss": 1.0 / step}) + "\n" for step in range(1, request.steps + 1))
        (context.output(request.log) / "metrics.jsonl").write_text("".join(curve))
    context.tracker.log_artifact(output)
    if os.environ.get("TINY_FAIL") == request.output:
        raise RuntimeError("the disk is on fire")
    return Report(steps_done=request.steps - done)


def step(request: Request, context: Context, number: int) -> None:
    time.sleep(request.step_seconds)
    context.tracker.log_metrics({"loss": 1.0 / number}, number)


def _map(count: int, context: Context) -> None:
    """A big map as stages run it, over real children; its third row cannot be worked on."""
    rows = pa.table(
        {
            "name": [f"row{i}" for i in range(count)],
            "number": range(count),
            "deed": ["raise" if i == 2 else "fine" for i in range(count)],
        }
    )
    keep = context.scratch / "squares"
    run_operator("pool_operators:behave", rows, {}, workers=2, batch_rows=2, keep=keep)


def bodies(workspace: Path) -> list[str]:
    """Outputs of the bodies that were started so far, in order."""
    log = workspace / "bodies.log"
    return log.read_text().split() if log.exists() else []


def new_workspace(folder: Path, **params: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "source.txt").write_text("once upon a time")
    set_params(folder, **params)
    return folder


def set_params(workspace: Path, **params: object) -> Params:
    checked = Params.model_validate(params)
    (workspace / "params.yaml").write_text(yaml.safe_dump(checked.model_dump()))
    return checked
