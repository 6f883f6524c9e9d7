"""Checkpoints of one run: weights, averaged weights, optimizer state and position; of one rank or of many.

A save copies this rank's pieces into host memory and returns; a thread writes and hashes them. The marker comes last, when the
files of all ranks are on the disk. The newest checkpoint that is whole wins.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from goku_core.pipeline.errors import GokuError
from goku_core.storage import Bucket, split_url
from goku_core.train.checkpoint import folder as place
from goku_core.train.checkpoint.files import write
from goku_core.train.checkpoint.folder import INDEX, STATE, Checkpoint, Marker, Written
from goku_core.train.checkpoint.index import Index
from goku_core.train.checkpoint.loading import fill, refuse_other_tensors
from goku_core.train.checkpoint.plan import Plan, make_plan, structure
from goku_core.train.checkpoint.ranks import Ranks
from goku_core.train.checkpoint.remote import Found, Remote
from goku_core.train.checkpoint.settings import Checkpointing
from goku_core.train.checkpoint.staging import Staging
from goku_core.train.checkpoint.state import (
    State,
    make_room,
    named_tensors,
    optimized_names,
    refuse_other_optimizers,
)

NICE = 10  # of the writing thread, against the training's 0: on a full machine it takes what is left


class Checkpoints:
    """Those of one run, in `folder`, which all ranks see (a disk of the node, or a shared one beyond one node).

    keep, keep_every  the newest so many stay, and those at multiples of so many steps
    remote            where a second copy goes; the first rank sends it, behind the local one
    asynchronous      False: `save` returns when the checkpoint is on the disk
    lineage           what the run is (fingerprint, phase, config.json of the network): kept in every checkpoint
    group             gloo group of the ranks that take part, used by nothing else; None: all ranks. They call every method together
    say               hears one line where a person should know something
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 2,
        remote: Bucket | None = None,
        asynchronous: bool = True,
        *,
        keep_every: int | None = None,
        lineage: Mapping[str, Any] | None = None,
        group: dist.ProcessGroup | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder, self.keep, self.keep_every, self.asynchronous = folder, keep, keep_every, asynchronous
        self.lineage, self.say = dict(lineage or {}), say
        self._ranks = Ranks(group)
        self._remote = Remote(remote, keep, keep_every, say) if remote is not None else None
        self._staging = Staging()
        self._plan: Plan | None = None
        self._writer: threading.Thread | None = None
        self._failed: Exception | None = None

    def save(self, step: int, state: State, position: Mapping[str, Any]) -> None:
        """Stages the state of `step`; it is written behind the training. Waits for the save before, and raises what that met."""
        self.wait()
        tensors = named_tensors(state)
        self._plan = self._planned(tensors, state)
        described = {
            "step": step,
            "position": dict(position),
            "lineage": self.lineage,
            "ranks": _mesh(tensors, self._ranks),
        }
        text = json.dumps(described, separators=(",", ":"))  # now: the caller goes on counting
        failed: Exception | None = None
        try:
            self._staging.fill(self._plan.files, tensors)
        except (RuntimeError, MemoryError) as error:  # told to all ranks by the writer: they must not wait for this one
            failed = error
        if not self.asynchronous:
            self._write(step, self._plan, text, failed)
            self.wait()
            return
        self._writer = threading.Thread(
            target=self._write, args=(step, self._plan, text, failed), name=f"checkpoint {step}", daemon=True
        )
        self._writer.start()

    def wait(self, remote: bool = False) -> None:
        """Returns when everything saved is durable on all ranks; raises GokuError on all of them where it is not.

        remote  waits for the second copy too, or for its giving up (which `say` tells)
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise GokuError(f"the checkpoint was not written: {failed}") from failed
        if remote and self._remote is not None and self._ranks.is_first:
            self._remote.wait()

    def newest(self) -> Checkpoint | None:
        """The newest that is whole, of both tiers (one of the second tier is fetched); the same answer on every rank.

        Every file is read once: the ranks share the work.
        """
        self.wait()
        for candidate in self._ranks.first(self._candidates):
            try:
                found = candidate if isinstance(candidate, Checkpoint) else self._fetch(candidate)
            except GokuError as error:
                self._tell(f"{error} Trying the checkpoint before it.")
                continue
            if not (wrong := self._damage(found)):
                return found
            self._tell(f"{wrong[0]}. Trying the checkpoint before it.")
        return None

    def load(self, checkpoint: Checkpoint, state: State) -> dict[str, Any]:
        """Fills `state` in place, however it is sharded; returns the position that `save` was given.

        Raises GokuError naming what differs where the checkpoint is that of another network.
        """
        self.wait()
        return self._ranks.each(lambda: self._load(checkpoint, state))[self._ranks.rank]

    def _load(self, checkpoint: Checkpoint, state: State) -> dict[str, Any]:
        index = Index.read(checkpoint.path / INDEX)
        refuse_other_optimizers(state, index.optimizers, checkpoint.path.name)
        make_room(state, {name: (saved.dtype, saved.shape) for name, saved in index.tensors.items()})
        tensors = named_tensors(state)
        refuse_other_tensors(tensors, index, checkpoint.path.name)
        fill(tensors, checkpoint.path, index)
        return json.loads((checkpoint.path / STATE).read_text(encoding="utf-8"))["position"]

    def _planned(self, tensors: Mapping[str, Tensor], state: State) -> Plan:
        if self._plan is not None and self._plan.structure == structure(tensors):
            return self._plan
        return make_plan(tensors, optimized_names(state), self._ranks)

    def _write(self, step: int, plan: Plan, described: str, failed: Exception | None) -> None:
        """Two phases: every rank writes its files; when all have told their digests, the first writes the marker."""
        staging = self.folder / f".{place.name_of(step)}"
        if threading.current_thread() is not threading.main_thread() and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # on Linux this is the thread's own

        def own_files() -> dict[str, Written]:
            if failed is not None:
                raise failed
            staging.mkdir(parents=True, exist_ok=True)
            buffers = self._staging.wait()
            written = zip(plan.files, buffers, strict=True)
            return {file.name: write(staging / file.name, (file.header, buffer)) for file, buffer in written}

        try:
            everybody = self._ranks.each(own_files)
            self._ranks.first(lambda: self._commit(step, staging, everybody, plan.index, described))
        except Exception as error:  # raised by the next call: nobody looks at this thread
            self._failed = error
            if self._ranks.is_first:
                shutil.rmtree(staging, ignore_errors=True)  # a disk that ran full is not left full

    def _commit(
        self, step: int, staging: Path, everybody: list[dict[str, Written]], index: str, described: str
    ) -> None:
        files = {name: written for own in everybody for name, written in own.items()}
        for name, written in files.items():
            if not (staging / name).is_file() or (staging / name).stat().st_size != written.bytes:
                raise GokuError(
                    f"{staging / name}: another rank has written it, and this one does not see it. The folder of checkpoints "
                    "must be one that all ranks share."
                )
        files |= {name: write(staging / name, [text.encode()]) for name, text in ((INDEX, index), (STATE, described))}
        path = place.publish(staging, Marker.now(step, dict(sorted(files.items()))))
        if self._remote is not None:
            self._remote.send(path)
        spared = self._remote.sending() if self._remote is not None else ()
        try:
            place.sweep(self.folder, step, self.keep, self.keep_every, spared)
        except OSError as error:  # the new one is there all the same
            self.say(f"an old checkpoint could not be removed: {error}")

    def _candidates(self) -> list[Checkpoint | Found]:
        """Of both tiers, newest first; of one step the local one first."""
        place.mend(self.folder)
        found: list[Checkpoint | Found] = [*place.listed(self.folder)]
        if self._remote is not None:
            try:
                found += self._remote.complete()
            except GokuError as error:
                self.say(f"checkpoints of the store are left out: {error}")
        return sorted(found, key=lambda one: -one.step)

    def _fetch(self, found: Found) -> Checkpoint:
        """Brings a checkpoint of the second tier into the folder; the ranks share its files."""
        assert self._remote is not None
        remote, staging = self._remote, self.folder / f".{place.name_of(found.step)}"
        mine = _share(found.marker, self._ranks)
        self._tell(f"fetching {remote.url(found)}")
        self._ranks.each(lambda: remote.fetch(found, sorted(mine), staging))
        return Checkpoint(self._ranks.first(lambda: place.publish(staging, found.marker)), found.step)

    def _damage(self, checkpoint: Checkpoint) -> list[str]:
        """What is wrong with a checkpoint: each rank looks at its share of the files."""
        marker = self._ranks.first(lambda: place.read_marker(checkpoint.path))
        mine = _share(marker, self._ranks) if marker else set()
        by_rank = self._ranks.each(lambda: place.damage(checkpoint.path, marker, mine))
        return list(dict.fromkeys(sentence for sentences in by_rank for sentence in sentences))

    def _tell(self, line: str) -> None:
        if self._ranks.is_first:
            self.say(line)


def _share(marker: Marker, ranks: Ranks) -> set[str]:
    """Names of this rank's share of the files, even by bytes: the largest first, each to the rank with the least."""
    loads = [0] * ranks.count
    mine = set()
    for name, file in sorted(marker.files.items(), key=lambda one: (-one[1].bytes, one[0])):
        rank = loads.index(min(loads))
        loads[rank] += file.bytes + 1
        if rank == ranks.rank:
            mine.add(name)
    return mine


def _mesh(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Any]:
    """How many ranks write, and over which mesh the tensors are sharded."""
    for tensor in tensors.values():
        if isinstance(tensor, DTensor):
            mesh = tensor.device_mesh
            names = mesh.mesh_dim_names or tuple(f"axis {axis}" for axis in range(mesh.ndim))
            return {"count": ranks.count, "mesh": dict(zip(names, mesh.shape, strict=True))}
    return {"count": ranks.count, "mesh": {}}


def open_checkpoints(
    settings: Checkpointing,
    folder: Path,
    lineage: Mapping[str, Any],
    say: Callable[[str], None] = lambda line: None,
) -> Checkpoints:
    """The checkpoints of a run as its request wants them; those of the second tier lie below `remote`/FINGERPRINT/."""
    remote = None
    if settings.remote is not None:
        name, prefix = split_url(settings.remote.rstrip("/") + f"/{lineage['fingerprint']}/")
        remote = Bucket(name, prefix)
    return Checkpoints(
        folder,
        settings.keep,
        remote,
        settings.asynchronous,
        keep_every=settings.keep_every,
        lineage=lineage,
        say=say,
    )
