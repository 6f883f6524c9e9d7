"""The line: which pieces of work (cells) there are, in which order, what each reads and writes.

Every driver (`dvc repro`, the Prefect flow, `goku run`) and every reader (`goku plan`, `goku status`, the report) takes
the line from here. A stage is one cell, except `train`, which is one cell per phase: `train@joint_low`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.identity import identity

if TYPE_CHECKING:
    from goku_core.config import Params
    from goku_core.pipeline.commit import Workspace
    from goku_core.pipeline.fingerprint import Tree

# Raised by hand when a stage's results change for the same request and inputs. Never lowered.
REVISIONS = {
    "collect": 4,
    "curate": 5,
    "vae": 1,
    "precompute": 3,
    "train": 3,
    "evaluate": 2,
    "promote": 1,
}
STAGES = tuple(REVISIONS)


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    name      ``curate`` or ``train@joint_low``
    stage     name of the stage; its room is the module `room`, by default ``goku_core.<stage>``
    request   the stage's parameters, reduced to what this cell needs
    inputs    paths relative to the workspace (absolute only for a user's own media), or the address of a bucket
    outputs   paths relative to the workspace; nobody else writes there
    revision  see `REVISIONS`
    seed      the run seed
    after     names of the cells whose outputs are read
    """

    name: str
    stage: str
    request: BaseModel
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    revision: int = 1
    seed: int = 0
    room: str = ""
    after: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return self.room or f"goku_core.{self.stage}"

    @property
    def weights(self) -> tuple[str, ...]:
        """Places of pretrained weights that the request uses, as written there: folders or files, or names of a hub.

        What lies in such a folder is an input like any other: other content under the same path is other work.
        """
        return tuple(dict.fromkeys(_weights(self.request)))

    def request_json(self) -> dict[str, Any]:
        """What the work is: the request without the fields that only say how it is done."""
        return identity(self.request)

    def content(self, path: str, place: Workspace) -> Tree | None:
        """What lies at an input, None where nothing does.

        A request that reads more than files of the workspace answers for it (`input_tree`): a bucket's listing.
        Raises `GokuError` where that cannot be asked.
        """
        ask = getattr(self.request, "input_tree", None)
        return ask(path, place.root, place.digests) if ask else place.digests.tree(place.root / path)

    def overtaken(self, report: Mapping[str, Any], root: Path) -> str:
        """Why finished work with that report no longer stands although its inputs are the same; empty: it stands.

        A request whose answer also rests on what is no input, as a decision does on the decisions before it, says so itself
        (`overtaken`). Of every other cell the inputs say all.
        """
        ask = getattr(self.request, "overtaken", None)
        return ask(report, root) if ask else ""


def _weights(request: BaseModel) -> Iterator[str]:
    """Values of every key `weights`, however deep; a section with `weights_in_use()` says itself which it uses."""
    if isinstance(getattr(request, "weights_in_use", None), Callable):
        yield from request.weights_in_use()
    elif isinstance(found := getattr(request, "weights", None), str) and found:
        yield found
    for name in type(request).model_fields:
        inner = getattr(request, name)
        for one in inner.values() if isinstance(inner, dict) else [inner]:
            if isinstance(one, BaseModel):
                yield from _weights(one)


def cells(params: Params) -> list[Cell]:
    """All cells of the line in an order in which they can run."""

    def cell(stage: str, request: BaseModel, inputs: Iterable[str], outputs: Iterable[str], name: str = "") -> Cell:
        return Cell(name or stage, stage, request, tuple(inputs), tuple(outputs), REVISIONS[stage], params.seed)

    clips = ("data/clips.parquet", "data/raw", "data/transcoded")
    trained = [
        cell(
            "train",
            params.train.for_phase(name),
            dict.fromkeys(("data/latents", "models/vae", f"models/{phase.init_from}")),
            [f"models/{name}"],
            name=f"train@{name}",
        )
        for name, phase in params.train.phases.items()
    ]
    evaluated = dict.fromkeys(params.evaluate.models())
    promoted = dict.fromkeys(params.promote.phases().values())
    return wire(
        [
            cell("collect", params.collect, params.collect.inputs(), ["data/raw", "data/raw.parquet"]),
            cell(
                "curate",
                params.curate,
                ["data/raw", "data/raw.parquet", *params.curate.files()],
                ["data/clips.parquet", "data/transcoded", "reports/curation", "reports/curation.html"],
            ),
            cell("vae", params.vae, clips, ["models/vae"]),
            cell("precompute", params.precompute, [*clips, "models/vae"], ["data/latents"]),
            *trained,
            cell(
                "evaluate",
                params.evaluate,
                ["models/vae", *(f"models/{name}" for name in evaluated)],
                ["reports/evaluation"],
            ),
            cell(
                "promote",
                params.promote,
                ["reports/evaluation", "models/vae", *(f"models/{name}" for name in promoted)],
                ["reports/promotion.json"],
            ),
        ]
    )


def wire(line: Sequence[Cell]) -> list[Cell]:
    """Fill in `after`. Two cells with one output, or a cell before its producer, are errors of the declaration."""
    made_by: dict[str, str] = {}
    produced = {output for cell in line for output in cell.outputs}
    wired = []
    for cell in line:
        for path in cell.inputs:
            if path in produced and path not in made_by:
                raise GokuError(f"{cell.name} reads {path}, which is made by a later cell or by itself.")
        for path in cell.outputs:
            if path in made_by:
                raise GokuError(f"{cell.name} and {made_by[path]} both write {path}.")
            made_by[path] = cell.name
        after = dict.fromkeys(made_by[path] for path in cell.inputs if path in made_by)
        wired.append(replace(cell, after=tuple(after)))
    return wired


def select(line: Sequence[Cell], names: Sequence[str]) -> list[Cell]:
    """Cells by name, in the order of the line. `train` means all its phases; no name means the whole line."""
    if not names:
        return list(line)
    known = {cell.name for cell in line} | {cell.stage for cell in line}
    for name in names:
        if name not in known:
            raise GokuError(f"There is no cell {name!r}. Cells: {', '.join(cell.name for cell in line)}.")
    return [cell for cell in line if cell.name in names or cell.stage in names]
