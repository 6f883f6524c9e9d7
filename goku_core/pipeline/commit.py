"""Where finished work is written down, and how outputs reach the workspace.

A commit is: output files into the store, then the commit record (atomically, last). The workspace is a check-out of
what is committed: per output one rename aside, one rename in. A kill before the record loses the attempt (its scratch
folder stays); a kill after it loses nothing, the next start checks out what is missing.
"""

from __future__ import annotations

import errno
import json
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goku_core.pipeline.files import digest_json, lock, lock_if_free, write_json
from goku_core.pipeline.fingerprint import Digests, Tree
from goku_core.pipeline.store import Store
from goku_core.pipeline.versions import beside
from goku_core.pipeline.versions.cache import DvcCache

# What a commit record has beside its lineage record.
NO_LINEAGE = frozenset({"report", "seconds", "attempt", "host", "machine", "lineage"})


@dataclass(frozen=True)
class Record:
    """One finished piece of work. `value` is the JSON document; see `executor._record` for its keys."""

    value: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        return self.value["fingerprint"]

    @property
    def cell(self) -> str:
        return self.value["cell"]

    @property
    def stage(self) -> str:
        return self.value["stage"]

    @property
    def report(self) -> dict[str, Any]:
        return self.value["report"]

    @property
    def seconds(self) -> float:
        return self.value["seconds"]

    @property
    def outputs(self) -> dict[str, Tree]:
        return {path: Tree.from_json(tree) for path, tree in self.value["outputs"].items()}

    def output_digests(self) -> dict[str, str]:
        return {path: tree["digest"] for path, tree in self.value["outputs"].items()}


class Workspace:
    """The folder that holds params.yaml, and the platform's own `.goku/` in it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.goku = self.root / ".goku"
        self.goku.mkdir(parents=True, exist_ok=True)
        self.digests = Digests(self.goku / "digests.sqlite")
        self.store = Store(self.goku / "store", self.digests)
        self.dvc = DvcCache(self.root)
        self._carried: dict[str, Record] | None = None

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.digests.close()

    # places
    def staging(self, fingerprint: str) -> Path:
        return self.goku / "staging" / fingerprint

    def scratch(self, fingerprint: str) -> Path:
        return self.goku / "scratch" / fingerprint

    def lock_file(self, fingerprint: str) -> Path:
        return self.goku / "locks" / f"{fingerprint}.lock"

    @property
    def attempts(self) -> Path:
        return self.goku / "attempts.jsonl"

    # records
    def record_file(self, stage: str, fingerprint: str) -> Path:
        return self.goku / "records" / stage / f"{fingerprint}.json"

    def record(self, stage: str, fingerprint: str, outputs: Collection[str] | None = None) -> Record | None:
        """The record of a piece of work: written here, else carried here from another clone.

        outputs  paths that the work declares, which no fingerprint covers: a record of other paths is not about it
        """
        places = (lambda: _read_record(self.record_file(stage, fingerprint)), lambda: self.carried().get(fingerprint))
        found = (place() for place in places)  # what was carried is read only where it is asked for
        return next((one for one in found if one and (outputs is None or set(one.outputs) == set(outputs))), None)

    def carried(self) -> dict[str, Record]:
        """Records by fingerprint that git and DVC have brought: in records/, else in DVC's cache (DVC removes a stage's
        outputs, and with them its record, before it runs the stage). One that is not about what it names is left out."""
        if self._carried is None:
            names = {path for path in self.dvc.outputs if path.startswith(f"{beside.RECORDS}/")}
            names |= {f"{beside.RECORDS}/{file.name}" for file in (self.root / beside.RECORDS).glob("*.json")}
            files = [file for name in sorted(names) for file in (self.root / name, *self.dvc.files(name).values())]
            values = [value for file in files if (value := beside.read(file))]
            self._carried = {value["fingerprint"]: Record(value) for value in values}
        return self._carried

    def records(self) -> Iterator[Record]:
        """All records, oldest first."""
        found = (_read_record(file) for file in (self.goku / "records").glob("*/*.json"))
        yield from sorted((r for r in found if r), key=lambda r: r.value["finished"])

    def write_record(self, value: Mapping[str, Any]) -> Record:
        write_json(self.record_file(value["stage"], value["fingerprint"]), value)
        return Record(value)

    def write_lineage(self, value: Mapping[str, Any]) -> str:
        """Content-addressed: the file's name is the digest of the document. Returns it."""
        digest = digest_json(value)
        write_json(self.goku / "lineage" / f"{digest}.json", value)
        return digest

    # outputs
    def holds_outputs(self, record: Record) -> bool:
        """Do the workspace's outputs have the record's digests?"""
        for path, tree in record.outputs.items():
            here = self.digests.tree(self.root / path)
            if here is None or here.digest != tree.digest:
                return False
        return True

    def can_restore(self, record: Record) -> bool:
        """Are all bytes of the outputs in the store, or in DVC's cache?"""
        return all(self._lacking(path, tree) is not None for path, tree in record.outputs.items())

    def restore(self, record: Record) -> None:
        """Check the record's outputs out of the store. The caller has asked `can_restore` and holds the lock."""
        staging = self.staging(record.fingerprint)
        remove(staging)
        for path, tree in record.outputs.items():
            for sha256, file in (self._lacking(path, tree) or {}).items():
                self.store.take(file, sha256)
            self.store.lay_out(tree, staging / path)
        self.check_out(record.fingerprint, record.outputs)

    def _lacking(self, path: str, tree: Tree) -> dict[str, Path] | None:
        """Objects that the store lacks -> the same bytes in DVC's cache; None where these are not all there either."""
        lacking = {name: sha256 for name, sha256 in tree.files.items() if not self.store.holds(sha256)}
        if not lacking:
            return {}
        cached = self.dvc.files(path)
        if any(name not in cached or self.digests.file(cached[name]) != sha256 for name, sha256 in lacking.items()):
            return None
        return {sha256: cached[name] for name, sha256 in lacking.items()}

    def adopt(self, record: Record) -> None:
        """Make a record that was carried here one of this workspace, which holds its outputs: bytes first, record last."""
        if self.record_file(record.stage, record.fingerprint).is_file():
            return
        for path, tree in record.outputs.items():
            self.store.put(self.root / path, tree)
        facts = {key: value for key, value in record.value.items() if key not in NO_LINEAGE}
        self.write_lineage(facts | {"outputs": record.output_digests()})
        self.write_record(record.value)

    def check_out(self, fingerprint: str, outputs: Mapping[str, Tree]) -> None:
        """Move staged outputs into the workspace, each by one rename."""
        aside = self.goku / "aside"
        with lock(self.goku / "locks" / "checkout.lock"):
            remove(aside)  # what a kill between the two renames of an earlier check-out left
            aside.mkdir()
            for path, tree in outputs.items():
                source, target = self.staging(fingerprint) / path, self.root / path
                here = self.digests.tree(target)
                if here is not None and here.digest == tree.digest and here.folder == tree.folder:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                source = _same_file_system(source, target)
                if target.exists() or target.is_symlink():
                    _rename(target, aside / uuid.uuid4().hex)
                source.rename(target)
            remove(aside)
        remove(self.staging(fingerprint))

    def sweep(self) -> None:
        """Remove the staging folders that killed attempts left. Their scratch folders stay: they hold checkpoints."""
        staging = self.goku / "staging"
        if not staging.is_dir():
            return
        for folder in staging.iterdir():
            with lock_if_free(self.lock_file(folder.name)) as free:
                if free:
                    remove(folder)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read_record(file: Path) -> Record | None:
    if not file.is_file():
        return None
    return Record(json.loads(file.read_text(encoding="utf-8")))


def _same_file_system(source: Path, target: Path) -> Path:
    """`source`, or a copy of it beside `target` where that lies on another file system (a linked data folder)."""
    if source.stat().st_dev == target.parent.stat().st_dev:
        return source
    copy = target.with_name(f".{target.name}.incoming")
    remove(copy)
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        shutil.copy2(source, copy)
    return copy


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        remove(source)
