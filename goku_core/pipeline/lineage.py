"""Where something came from and what was made of it, from the lineage records alone: no server is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.errors import GokuError


@dataclass(frozen=True)
class Node:
    """One commit: a piece of work that was done."""

    digest: str  # of the lineage record
    value: Mapping[str, Any]

    @property
    def cell(self) -> str:
        return self.value["cell"]

    @property
    def inputs(self) -> dict[str, str]:
        return {path: content["digest"] for path, content in self.value["inputs"].items()}

    @property
    def outputs(self) -> dict[str, str]:
        return dict(self.value["outputs"])

    def as_json(self) -> dict[str, Any]:
        return {"lineage": self.digest, **self.value}


@dataclass(frozen=True)
class Chain:
    """`made_from`: all that led to the nodes asked for; `made_into`: all that used them. Nearest first."""

    asked: tuple[Node, ...]
    made_from: tuple[Node, ...]
    made_into: tuple[Node, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "asked": [node.as_json() for node in self.asked],
            "made_from": [node.as_json() for node in self.made_from],
            "made_into": [node.as_json() for node in self.made_into],
        }


def chain(workspace: Path, name: str) -> Chain:
    """The chain both ways from `name`.

    name  the beginning (6 characters or more) of a fingerprint, of an output's, a file's or a lineage record's digest,
          or of an MLflow or driver run id; or a path in the workspace; or the name of a cell

    Raises `GokuError` when nothing, or too much, has that name.
    """
    nodes = list(_nodes(workspace))
    asked = _find(nodes, workspace, name)
    makers: dict[tuple[str, str], Node] = {}
    for node in nodes:
        makers |= dict.fromkeys(node.outputs.items(), node)
    return Chain(
        tuple(asked),
        tuple(_walk(asked, lambda node: [makers[item] for item in node.inputs.items() if item in makers])),
        tuple(
            _walk(asked, lambda node: [n for n in nodes if node.outputs.items() & n.inputs.items()]),
        ),
    )


def _walk(start: list[Node], step: Any) -> Iterator[Node]:
    seen = {node.digest for node in start}
    waiting = list(start)
    while waiting:
        for node in step(waiting.pop(0)):
            if node.digest not in seen:
                seen.add(node.digest)
                waiting.append(node)
                yield node


def _nodes(workspace: Path) -> Iterator[Node]:
    """Lineage records that a commit record names, oldest first (one without never became a commit)."""
    with Workspace(workspace) as place:
        for record in place.records():
            digest = record.value["lineage"]
            file = place.goku / "lineage" / f"{digest}.json"
            yield Node(digest, json.loads(file.read_text(encoding="utf-8")))


def _find(nodes: list[Node], workspace: Path, name: str) -> list[Node]:
    of_cell = [node for node in nodes if node.cell == name]
    if of_cell:
        return of_cell[-1:]
    digest = _digest_of_path(workspace, name)
    wanted = digest or name
    found = [node for node in nodes if any(_matches(known, wanted) for known in _names(workspace, node))]
    if not found:
        raise GokuError(
            f"Nothing here is named {name!r}: no cell, no file of the workspace that a stage made, and no fingerprint, "
            f"digest or run id begins with it (6 characters at least). `goku status` lists what there is."
        )
    if len(found) > 1 and digest is None and len({node.value["fingerprint"] for node in found}) > 1:
        cells = ", ".join(f"{node.cell} {node.value['fingerprint'][:12]}" for node in found)
        raise GokuError(f"{name!r} is the name of several: {cells}. Give more of it.")
    return found


def _names(workspace: Path, node: Node) -> Iterator[str]:
    value = node.value
    yield from (node.digest, value["fingerprint"], *node.outputs.values())
    yield from (run for run in (value["mlflow_run"], value["driver_run"]) if run)
    record = workspace / ".goku" / "records" / value["stage"] / f"{value['fingerprint']}.json"
    if record.is_file():
        for tree in json.loads(record.read_text(encoding="utf-8"))["outputs"].values():
            yield from tree["files"].values()


def _matches(known: str, wanted: str) -> bool:
    return len(wanted) >= 6 and known.startswith(wanted.lower())


def _digest_of_path(workspace: Path, name: str) -> str | None:
    path = workspace / name
    if not path.exists():
        return None
    with Workspace(workspace) as place:
        tree = place.digests.tree(path)
    return tree.digest if tree else None
