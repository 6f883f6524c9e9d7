"""An index over commit records: names of everything, and what was read and written by which piece of work.

Ten thousand records are some 300 MB of JSON, most of it digests of code. The index holds what a question needs. It is
brought up to date before each question from the records, which are the truth; deleting it costs seconds.

Work that was done again (`--strict`) has a new commit record in the old one's place. What the old one wrote may live on in
what was made of it: a lineage record without a commit record counts where somebody read what it names as written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from goku_core.lineage.sources import Source
from goku_core.pipeline.fingerprint import Tree

VERSION = 1
LOOSE = "lineage/"  # in the column `record`: of a lineage record that no commit record names
PREFIX = 32  # characters of a name that are kept: 128 bits of a digest
PHASE = ("config.json", "model.safetensors")  # the files that name a trained phase, see `goku_core.references`
COLUMNS = "id, lineage, cell, stage, fingerprint, finished, git, dirty, mlflow_run, driver, driver_run, bundle"
SCHEMA = """
CREATE TABLE nodes (id INTEGER PRIMARY KEY AUTOINCREMENT, record TEXT UNIQUE, stamp TEXT, lineage TEXT, cell TEXT, stage TEXT,
  fingerprint TEXT, finished TEXT, git TEXT, dirty INTEGER, mlflow_run TEXT, driver TEXT, driver_run TEXT, bundle TEXT);
CREATE TABLE inputs (node INTEGER, path TEXT, digest TEXT);
CREATE TABLE outputs (node INTEGER, path TEXT, digest TEXT);
CREATE TABLE names (name TEXT, kind TEXT, node INTEGER, PRIMARY KEY (name, kind, node)) WITHOUT ROWID;
CREATE INDEX inputs_of ON inputs (node);
CREATE INDEX outputs_of ON outputs (node);
CREATE INDEX readers ON inputs (digest, path);
CREATE INDEX makers ON outputs (digest, path);
CREATE INDEX cells ON nodes (cell, finished);
"""


@dataclass(frozen=True)
class Node:
    """One commit: a piece of work that was done. `value` is its whole lineage record, read when asked for."""

    digest: str  # of the lineage record
    cell: str
    stage: str
    fingerprint: str
    finished: str
    git: str | None
    dirty: bool
    mlflow_run: str | None
    driver: str
    driver_run: str | None
    bundle: str | None  # what a promotion bundled
    inputs: Mapping[str, str]  # path -> digest
    outputs: Mapping[str, str]
    source: Source = field(compare=False, repr=False)

    @cached_property
    def value(self) -> Mapping[str, Any]:
        return json.loads(self.source.document(self.digest))

    def as_json(self) -> dict[str, Any]:
        return {
            "lineage": self.digest,
            "cell": self.cell,
            "fingerprint": self.fingerprint,
            "finished": self.finished,
            "git": {"commit": self.git, "dirty": self.dirty} if self.git else None,
            "mlflow_run": self.mlflow_run,
            "driver": self.driver,
            "driver_run": self.driver_run,
            "bundle": self.bundle,
            "inputs": dict(self.inputs),
            "outputs": dict(self.outputs),
        }


class Index:
    """Close it, or use it in `with`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        file = source.index_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open(file)
        except sqlite3.DatabaseError:  # damaged, or of another version of this file: made anew from the records
            file.unlink(missing_ok=True)
            self._open(file)
        self._refresh()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _open(self, file: Path) -> None:
        self._database = sqlite3.connect(file, timeout=60, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = OFF")  # lost, it is made again
        self._database.execute("PRAGMA cache_size = -200000")  # kB
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        self._database.execute("BEGIN IMMEDIATE")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            self._database.close()
            raise sqlite3.DatabaseError(f"version {version}")
        if version == 0:
            for statement in SCHEMA.strip().split(";\n"):
                self._database.execute(statement)
            self._database.execute(f"PRAGMA user_version = {VERSION}")
        self._database.execute("COMMIT")

    def _refresh(self) -> None:
        """Take in what was written, or written again, since the last question; forget what is gone."""
        now, documents = self._source.stamps(), self._source.documents()
        if now == self._records() and documents <= self._named():
            return
        self._database.execute("BEGIN IMMEDIATE")
        try:
            known = self._records()
            for record in [record for record, stamp in known.items() if now.get(record) != stamp]:
                self._forget(record)
            known = self._records()
            names: list[tuple[str, str, int]] = []
            for record, content in self._source.records([record for record in now if record not in known]):
                names += self._add(record, now[record], json.loads(content))
            names.sort()  # a million of them in the order of the table take a third of the time
            self._database.executemany("INSERT INTO names VALUES (?, ?, ?)", names)
            self._refresh_loose(documents)
            self._database.execute("COMMIT")
        except BaseException:
            self._database.execute("ROLLBACK")
            raise

    def _refresh_loose(self, documents: set[str]) -> None:
        """Lineage records that no commit record names, or does not name yet."""
        recorded = self._named("WHERE record NOT LIKE ?", f"{LOOSE}%")
        for (record,) in self._database.execute(
            "SELECT record FROM nodes WHERE record LIKE ?", (f"{LOOSE}%",)
        ).fetchall():
            if record.removeprefix(LOOSE) in recorded:
                self._forget(record)
        for digest in sorted(documents - self._named()):
            value = json.loads(self._source.document(digest))
            outputs = {path: {"digest": one, "files": {}} for path, one in value["outputs"].items()}
            # Reached from what was made of it, and by no name.
            self._add(LOOSE + digest, "", value | {"outputs": outputs, "report": {}, "lineage": digest})

    def _records(self) -> dict[str, str]:
        return dict(self._database.execute("SELECT record, stamp FROM nodes WHERE stamp != ''"))

    def _named(self, where: str = "", *values: str) -> set[str]:
        return {row[0] for row in self._database.execute(f"SELECT lineage FROM nodes {where}", values)}

    def _forget(self, record: str) -> None:
        row = self._database.execute("SELECT id FROM nodes WHERE record = ?", (record,)).fetchone()
        if row is None:
            return
        for table in ("inputs", "outputs"):  # names stay: to find them would take a second index, and they lead nowhere
            self._database.execute(f"DELETE FROM {table} WHERE node = ?", row)
        self._database.execute("DELETE FROM nodes WHERE id = ?", row)

    def _add(self, record: str, stamp: str, value: Mapping[str, Any]) -> list[tuple[str, str, int]]:
        """Returns the rows for `names`."""
        git = value["git"] or {}
        bundle = value["report"].get("digest") if value["stage"] == "promote" else None
        node = self._database.execute(
            f"INSERT INTO nodes (record, stamp, {COLUMNS.removeprefix('id, ')}) VALUES (?{', ?' * 12})",
            (record, stamp, value["lineage"], value["cell"], value["stage"], value["fingerprint"], value["finished"],
             git.get("commit"), bool(git.get("dirty")), value["mlflow_run"], value["driver"], value["driver_run"], bundle),
        ).lastrowid  # fmt: skip
        inputs = ((node, path, content["digest"]) for path, content in value["inputs"].items())
        self._database.executemany("INSERT INTO inputs VALUES (?, ?, ?)", inputs)
        outputs = ((node, path, tree["digest"]) for path, tree in value["outputs"].items())
        self._database.executemany("INSERT INTO outputs VALUES (?, ?, ?)", outputs)
        return sorted({(name[:PREFIX].lower(), kind, node) for kind, name in _names(value, bundle)})

    def named(self, beginning: str, kinds: Iterable[str] = ()) -> dict[str, list[Node]]:
        """Everything a name of which begins so, by what that name is, oldest first."""
        low = beginning[:PREFIX].lower()
        found = self._database.execute(
            "SELECT DISTINCT kind, node FROM names JOIN nodes ON id = node WHERE name >= ? AND name < ?",
            (low, low + "\x7f"),
        ).fetchall()
        by_kind: dict[str, set[int]] = {}
        for kind, node in found:
            if not kinds or kind in kinds:
                by_kind.setdefault(kind, set()).add(node)
        return {kind: self._nodes(nodes) for kind, nodes in by_kind.items()}

    def of_cell(self, name: str) -> Node | None:
        """The newest commit of a cell."""
        query = "SELECT id FROM nodes WHERE cell = ? AND record NOT LIKE ? ORDER BY finished DESC LIMIT 1"
        found = self._database.execute(query, (name, f"{LOOSE}%")).fetchone()
        return self._nodes([found[0]])[0] if found else None

    def makers(self, node: Node) -> Iterator[Node]:
        """Whoever wrote what a node read; the newest, where several wrote the same."""
        query = (
            "SELECT o.node FROM outputs o JOIN nodes n ON n.id = o.node WHERE o.digest = ? AND o.path = ? "
            "ORDER BY n.stamp = '', n.finished DESC LIMIT 1"
        )
        found = [self._database.execute(query, (digest, path)).fetchone() for path, digest in node.inputs.items()]
        yield from self._nodes(row[0] for row in found if row)

    def readers(self, node: Node) -> Iterator[Node]:
        """Whoever read what a node wrote."""
        query = (
            "SELECT i.node FROM inputs i JOIN nodes n ON n.id = i.node WHERE i.digest = ? AND i.path = ? AND "
            "(n.stamp != '' OR EXISTS (SELECT 1 FROM outputs o JOIN inputs r ON r.digest = o.digest AND r.path = o.path "
            "WHERE o.node = n.id))"
        )
        found: set[int] = set()
        for path, digest in node.outputs.items():
            found |= {row[0] for row in self._database.execute(query, (digest, path))}
        yield from self._nodes(found)

    def _nodes(self, numbers: Iterable[int]) -> list[Node]:
        nodes = []
        for number in dict.fromkeys(numbers):
            row = self._database.execute(f"SELECT {COLUMNS} FROM nodes WHERE id = ?", (number,)).fetchone()
            inputs = dict(self._database.execute("SELECT path, digest FROM inputs WHERE node = ?", (number,)))
            outputs = dict(self._database.execute("SELECT path, digest FROM outputs WHERE node = ?", (number,)))
            _, *facts = row
            facts[6] = bool(facts[6])
            nodes.append(Node(*facts, inputs, outputs, self._source))
        return sorted(nodes, key=lambda node: node.finished)


def _names(value: Mapping[str, Any], bundle: str | None) -> Iterator[tuple[str, str]]:
    """(kind, name) of everything by which a record can be asked for."""
    yield "fingerprint", value["fingerprint"]
    yield "lineage record", value["lineage"]
    if value["git"]:
        yield "commit", value["git"]["commit"]
    if value["mlflow_run"]:
        yield "MLflow run", value["mlflow_run"]
    if value["driver_run"]:
        yield "driver's run", value["driver_run"]
    if bundle:
        yield "model", bundle
    for path, tree in value["outputs"].items():
        yield "dataset" if path == "data/clips.parquet" else "output", tree["digest"]
        yield from (("file", digest) for digest in tree["files"].values())
        if value["stage"] == "train" and set(PHASE) <= tree["files"].keys():
            yield "model", Tree({name: tree["files"][name] for name in PHASE}, folder=True).digest
