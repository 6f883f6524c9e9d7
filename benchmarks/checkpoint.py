"""Saving and loading the state of a training (weights, average, AdamW's moments), against torch's distributed checkpoints (DCP).

Measures the claim: the call of an asynchronous save, which is all that training stands still for, takes at most 10 % of the
same save done synchronously. Beside it: what the writing in the background costs the steps meanwhile, loading with and
without verification, and (except with --small) loading in another number of ranks than wrote it. Ours hashes what it
writes and verifies what it reads; DCP does neither. Both write to the same disk and wait for it (fsync). Buffers of ours
are taken at the first save, which is the warm-up; DCP's asynchronous save takes new ones each time.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import statistics
import tempfile
import time
import warnings
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from benchmarks.measuring.options import DTYPES, parser, settle
from benchmarks.measuring.packs import SIZES, SMALL, SMALL_CONFIG
from benchmarks.measuring.result import Result
from benchmarks.measuring.timing import Timing, compare
from benchmarks.step import Ours
from goku_core.models import CONFIGS, Goku, GokuConfig
from goku_core.train.checkpoint import Checkpoint, Checkpoints, State
from goku_core.train.checkpoint.state import named_tensors

CLAIM = "The call of an asynchronous save, in seconds that training stands still: at most 10 % of the synchronous save"
LAYERS_ON_CPU = {"nano": 6, "2b": 1}
READERS = {"2 ranks wrote, 2 read": (2, 2), "2 ranks wrote, 1 reads": (2, 1), "1 rank wrote, 2 read": (1, 2)}


def main(arguments: list[str] | None = None) -> Result:
    options = parser("checkpoint", __doc__)
    options.add_argument("--models", nargs="+", choices=tuple(CONFIGS), default=["nano", "2b"], help="whose state")
    options.add_argument("--layers", type=int, help="cut the networks to so many [CPU: 1 of 2b; cuda: all]")
    options.add_argument("--steps", type=int, default=10, help="of training beside a save [10]")
    options.add_argument("--folder", type=Path, help="on the disk to be measured [a temporary folder]")
    options = settle(options.parse_args(arguments))
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
    result = Result("checkpoint", CLAIM, options)
    for name, config in _configs(options).items():
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            _measure(result, name, config, Path(folder))
    result.finish()
    return result


def _configs(options: argparse.Namespace) -> dict[str, GokuConfig]:
    if options.small:
        return {"tiny": SMALL_CONFIG}
    names = options.models[:1] if options.quick else options.models
    on_cpu = options.device == "cpu"
    layers = {n: options.layers or (LAYERS_ON_CPU.get(n, 1) if on_cpu else CONFIGS[n].depth) for n in names}
    return {f"{n} ({layers[n]} layers)": replace(CONFIGS[n], depth=layers[n]) for n in names}


def _measure(result: Result, name: str, config: GokuConfig, folder: Path) -> None:
    options = result.options
    training = Ours(config, result.device, DTYPES[options.dtype], compiled=False)
    step = training.step((SMALL if options.small else SIZES["2k"]).mixed())
    step()  # the optimizer's moments are there from now on
    state = State(training.model, copy.deepcopy(training.model).requires_grad_(False), {"adamw": training.optimizer})
    tensors = named_tensors(state)
    size = sum(t.numel() * t.element_size() for t in tensors.values()) / 1e9
    repeats = options.repeats or (2 if options.small else 3 if options.quick else 7)
    saving = _Saving(state, folder)
    sides = {
        "goku asynchronous, the call": saving.call,
        "goku synchronous": saving.whole,
        "DCP async_save, the call": saving.dcp_call,
        "DCP save": saving.dcp_whole,
    }
    pairs = [("goku asynchronous, the call", other) for other in list(sides)[1:]] + [("goku synchronous", "DCP save")]
    facts = {"state_GB": size}
    result.measure(f"{name}, save", sides, pairs, repeats=repeats, between=saving.drain, **facts)

    def steps() -> None:
        for _ in range(options.steps):
            step()

    def steps_beside_a_save() -> None:
        saving.call()
        steps()

    sides = {"goku steps beside a save": steps_beside_a_save, "goku steps alone": steps}
    pairs = [("goku steps beside a save", "goku steps alone")]
    amounts = {"steps": float(options.steps)}
    result.measure(f"{name}, training", sides, pairs, repeats=repeats, per_call=amounts, between=saving.drain, **facts)
    saving.whole()
    saving.dcp_whole()
    sides = {"goku load": saving.load, "goku verify and load": saving.verified_load, "DCP load": saving.dcp_load}
    pairs = [(own, "DCP load") for own in ("goku load", "goku verify and load")]
    result.measure(f"{name}, load", sides, pairs, repeats=repeats, per_call={"GB": size}, **facts)
    if result.device.type == "cpu" and not options.small:
        _resharded(result, name, config, folder, repeats)


class _Saving:
    """The same state by both, each into a folder of its own that holds one checkpoint."""

    def __init__(self, state: State, folder: Path) -> None:
        self.state, self.peer = state, folder / "dcp"
        self.behind = Checkpoints(folder / "asynchronous", keep=1)
        self.ahead = Checkpoints(folder / "synchronous", keep=1, asynchronous=False)
        self._step = 0
        self._running: Future[object] | None = None

    def call(self) -> None:
        self._step += 1
        self.behind.save(self._step, self.state, {})

    def whole(self) -> None:
        self._step += 1
        self.ahead.save(self._step, self.state, {})

    def dcp_call(self) -> None:
        self._running = dcp.async_save(named_tensors(self.state), storage_writer=self._writer(), no_dist=True)

    def dcp_whole(self) -> None:
        dcp.save(named_tensors(self.state), storage_writer=self._writer(), no_dist=True)

    def _writer(self) -> dcp.FileSystemWriter:
        shutil.rmtree(self.peer, ignore_errors=True)
        return dcp.FileSystemWriter(self.peer, sync_files=True)

    def drain(self) -> None:
        self.behind.wait()
        if self._running is not None:
            self._running.result()
            self._running = None

    def load(self) -> None:
        (path,) = self.ahead.folder.glob("step-*")
        self.ahead.load(Checkpoint(path, self._step), self.state)

    def verified_load(self) -> None:
        found = self.ahead.newest()
        assert found is not None
        self.ahead.load(found, self.state)

    def dcp_load(self) -> None:
        dcp.load(named_tensors(self.state), storage_reader=dcp.FileSystemReader(self.peer), no_dist=True)


def _resharded(result: Result, name: str, config: GokuConfig, folder: Path, repeats: int) -> None:
    """Two gloo processes; the slower of the readers counts."""
    result.say(f"{name}: two ranks write and read each other's checkpoints")
    mp.spawn(_rank, (config, folder, repeats), nprocs=2)
    ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    timings = {}
    for what in READERS:
        readers = [rank[what] for rank in ranks if what in rank]
        timings[f"goku {what}"] = Timing([max(seconds) for seconds in zip(*readers, strict=True)])
    for side, timing in timings.items():
        seconds = {"median_s": statistics.median(timing.seconds), "seconds": timing.seconds}
        result.rows.append({"case": f"{name}, load by ranks", "side": side} | seconds)
    same, *others = timings
    ratios = [compare(timings, other, same) for other in others]
    result.ratios += [{"case": f"{name}, load by ranks"} | asdict(ratio) for ratio in ratios]


def _rank(rank: int, config: GokuConfig, folder: Path, repeats: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.set_num_threads(1)
    meshes = {count: DeviceMesh("cpu", list(range(count))) for count in (1, 2)}
    groups = {count: dist.new_group(list(range(count))) for count in (1, 2)}
    seconds: dict[str, list[float]] = {}
    states = {count: _sharded(config, meshes[count]) for count in (1, 2) if rank < count}
    for count, state in states.items():
        Checkpoints(folder / f"{count} ranks", asynchronous=False, group=groups[count]).save(1, state, {})
    dist.barrier()
    for what, (writers, readers) in READERS.items():
        if rank < readers:
            checkpoints = Checkpoints(folder / f"{writers} ranks", group=groups[readers])
            found = checkpoints.newest()
            assert found is not None
            for repeat in range(-1, repeats):
                started = time.perf_counter()
                checkpoints.load(found, states[readers])
                if repeat >= 0:
                    seconds.setdefault(what, []).append(time.perf_counter() - started)
        dist.barrier()
    (folder / f"{rank}.json").write_text(json.dumps(seconds))
    dist.destroy_process_group()


def _sharded(config: GokuConfig, mesh: DeviceMesh) -> State:
    torch.manual_seed(0)
    networks = [Goku(config), Goku(config).requires_grad_(False)]
    for network in networks:
        for block in network.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)
    optimizer = torch.optim.AdamW(networks[0].parameters(), fused=False, foreach=False)
    for parameter in networks[0].parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return State(networks[0], networks[1], {"adamw": optimizer})


if __name__ == "__main__":
    main()
