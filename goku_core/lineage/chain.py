"""The chain both ways from anything that has a name: a breadth-first walk over what was read and written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goku_core.lineage.index import Index, Node
from goku_core.lineage.sources import source
from goku_core.pipeline.errors import GokuError
from goku_core.promote import ledger
from goku_core.promote.ledger import Entry

LEAST = 6  # characters of a digest or a run's id
ROLES = ("champion", "previous", "challenger")
DATASET = "data/clips.parquet"


@dataclass(frozen=True)
class Chain:
    """`made_from`: all that led to the nodes asked for; `made_into`: all that used them. Nearest first.

    entries  what the ledger says of the models in the chain, oldest first
    """

    asked: tuple[Node, ...]
    made_from: tuple[Node, ...]
    made_into: tuple[Node, ...]
    entries: tuple[Entry, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (*self.made_from, *self.asked, *self.made_into)

    def names(self) -> dict[str, list[str]]:
        """Every name in the chain by what it names, oldest first."""
        ordered = sorted(self.nodes, key=lambda node: node.finished)
        versions = {entry.bundle: entry.version for entry in self.entries}
        bundles = dict.fromkeys(node.bundle for node in ordered if node.bundle)
        return {
            "commits": _once(f"{node.git}{'+' if node.dirty else ''}" for node in ordered if node.git),
            "datasets": _once(n.outputs[DATASET] for n in ordered if DATASET in n.outputs),
            "fingerprints": _once(node.fingerprint for node in ordered),
            "mlflow_runs": _once(node.mlflow_run for node in ordered if node.mlflow_run),
            "driver_runs": _once(node.driver_run for node in ordered if node.driver_run),
            "models": [f"version {versions[b]}: {b}" if b in versions else b for b in bundles],
        }

    def as_json(self) -> dict[str, Any]:
        """Of the nodes asked for the whole record, request and code included; of the others what identifies them."""
        return {
            "asked": [node.as_json() | {"record": dict(node.value)} for node in self.asked],
            "made_from": [node.as_json() for node in self.made_from],
            "made_into": [node.as_json() for node in self.made_into],
            "names": self.names(),
            "ledger": [entry.model_dump(mode="json") for entry in self.entries],
        }


def chain(workspace: Path, name: str, place: str | None = None) -> Chain:
    """The chain both ways from `name`.

    name   the beginning (6 characters or more) of a commit, of the digest of a dataset, an output, a file, a model or a
           lineage record, of a fingerprint, or of an MLflow or driver run's id; a path in the workspace; a cell; a
           model's version or part (2, champion); a picture or clip that `goku generate` drew
    place  where the records are asked, as for `goku_core.lineage.sources.source`

    Raises `GokuError` when nothing, or too much, has that name.
    """
    records = source(workspace, place)
    with Index(records) as index:
        entries = ledger.read(records.ledger())
        asked = _asked(index, entries, workspace, name)
        made_from = tuple(_walk(asked, index.makers))
        made_into = tuple(_walk(asked, index.readers))
    bundles = {node.bundle for node in (*made_from, *asked, *made_into)}
    told = tuple(entry for entry in entries if entry.bundle in bundles)
    return Chain(tuple(asked), made_from, made_into, told)


def _walk(start: list[Node], step: Callable[[Node], Iterable[Node]]) -> Iterator[Node]:
    seen = {node.digest for node in start}
    waiting = list(start)
    place = 0
    while place < len(waiting):
        for node in step(waiting[place]):
            if node.digest not in seen:
                seen.add(node.digest)
                waiting.append(node)
                yield node
        place += 1


def _asked(index: Index, entries: list[Entry], workspace: Path, name: str) -> list[Node]:
    if of_cell := index.of_cell(name):
        return [of_cell]
    if bundle := _promoted(entries, name):
        return _several(index.named(bundle, ("model",)), name, f"The ledger knows {name}, {bundle[:12]}")
    if path := _digest_of_path(workspace, name):
        return _several(index.named(path), name, f"{name} is here, but no record names its bytes ({path[:12]})")
    found = index.named(name) if len(name) >= LEAST else {}
    if not found:
        raise GokuError(
            f"Nothing here is named {name!r}: no cell, no version of a model, no file that a stage made or that was "
            f"generated, and no commit, fingerprint, digest or run id begins with it ({LEAST} characters at least). "
            f"`goku status` and `goku registry ls` list what there is."
        )
    nodes = {node.digest: node for of_kind in found.values() for node in of_kind}
    one_thing = found.keys() <= {"commit", "driver's run"}  # those name many pieces of work, and all of them are meant
    if not one_thing and not _is_whole(name) and len({node.fingerprint for node in nodes.values()}) > 1:
        cells = ", ".join(f"{node.cell} {node.fingerprint[:12]}" for node in list(nodes.values())[:10])
        raise GokuError(f"{name!r} is the name of several: {cells}. Give more of it.")
    return sorted(nodes.values(), key=lambda node: node.finished)


def _is_whole(name: str) -> bool:
    """A whole digest: the same bytes, though several pieces of work have made them."""
    return re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{64}", name) is not None


def _several(found: dict[str, list[Node]], name: str, otherwise: str) -> list[Node]:
    nodes = {node.digest: node for of_kind in found.values() for node in of_kind}
    if not nodes:
        raise GokuError(
            f"{otherwise}: the record of what made it lies elsewhere (--from FOLDER or s3://bucket/prefix)."
        )
    return sorted(nodes.values(), key=lambda node: node.finished)


def _promoted(entries: list[Entry], name: str) -> str | None:
    """The bundle of a part or a version: champion, goku@champion, 2, version 2."""
    wanted = name.lower().rpartition("@")[2].removeprefix("version").strip()
    if wanted in ROLES:
        return ledger.roles(entries)[wanted]
    if wanted.isdigit() and len(wanted) < LEAST:
        return next((entry.bundle for entry in entries if entry.version == int(wanted)), None)
    return None


def _digest_of_path(workspace: Path, name: str) -> str | None:
    """Of a file or folder in the workspace; of a generated picture or clip that of the model that drew it."""
    from goku_core.pipeline.commit import Workspace

    path = workspace / name
    if not path.exists():
        return None
    if path.is_file() and not path.resolve().is_relative_to((workspace / "reports").resolve()):
        from goku_core.media.provenance import read_provenance

        if told := read_provenance(path):
            return told.model
    with Workspace(workspace) as place:
        tree = place.digests.tree(path)
    return tree.digest if tree else None


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
