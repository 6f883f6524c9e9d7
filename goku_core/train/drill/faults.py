"""The faults of a drill, each injected from outside into a training that knows nothing of it."""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file

from goku_core.train.drill import workspace
from goku_core.train.drill.training import DrillFailed, Training
from goku_core.train.request import TrainRequest

POISONED = 123  # a sample that comes up once or twice in the steps of a drill


@dataclass
class Seen:
    """detected, recovered: seconds after the fault until it was noticed, and until all ranks had done a step again.

    lost  steps that were trained again
    """

    detected: float | None = None
    recovered: float | None = None
    lost: int | None = None
    note: str = ""


@dataclass
class Drill:
    """Shared by the faults: the folder, the data set, and the digest of the run that nothing befell."""

    folder: Path
    unbroken: str = ""
    losses: list[float] = field(default_factory=list)
    running: list[Training] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.folder / "line"

    def training(
        self,
        name: str,
        data: Path | None = None,
        environment: dict[str, str] | None = None,
        request: TrainRequest | None = None,
    ) -> Training:
        made = Training(data or self.data, self.folder / name, request or workspace.request(), environment)
        self.running.append(made)
        return made

    def prepare(self) -> None:
        """Makes the data set and trains once, unharmed."""
        workspace.make(self.data)
        whole = self.unharmed("unbroken")
        self.unbroken, self.losses = whole.digest(), [entry["loss"] for entry in whole.log()]

    def unharmed(self, name: str, request: TrainRequest | None = None) -> Training:
        """A run that nothing befell."""
        whole = self.training(name, request=request)
        whole.start()
        whole.wait()
        return whole

    def same(self, training: Training, unbroken: str = "") -> None:
        if training.digest() != (unbroken or self.unbroken):
            raise DrillFailed("weights, average or losses differ from those of the unbroken run")

    def recovery(self, training: Training, at: float, attempt: int = 2) -> Seen:
        """Waits until the attempt trains, and counts what the one before it had done beyond."""
        again = training.first_step_at(attempt)
        failed = next(line for line in reversed(training.incidents()) if line.get("detected"))
        before, after = training.beats(attempt - 1)[0], training.beats(attempt)[0]
        return Seen(failed["detected"] - at, again - at, before.step - after.first)

    def close(self) -> None:
        for training in self.running:
            training.end()


def kill_one(drill: Drill) -> Seen:
    """kill -9 of one rank"""
    return _killed(drill, "kill-one", [1])


def kill_all(drill: Drill) -> Seen:
    """kill -9 of all ranks"""
    return _killed(drill, "kill-all", [0, 1])


def hang(drill: Drill) -> Seen:
    """one rank stops without ending (SIGSTOP)"""
    training = drill.training("hang")
    training.start()
    victim = training.reach(50, 1)[1]
    training.kill(victim, signal.SIGSTOP)
    seen = drill.recovery(training, time.time())
    training.wait()
    drill.same(training)
    stacks = list((training.scratch / "stacks/attempt-0001").glob("rank-*.txt"))
    if len(stacks) != 2 or not all("most recent call first" in path.read_text() for path in stacks):
        raise DrillFailed("the stacks of the ranks were not saved")
    seen.note = "stacks of both ranks saved"
    return seen


def slow(drill: Drill) -> Seen:
    """one rank gets a quarter of its processor"""
    # With whole weights on every rank; where they are shared, ranks wait for one another inside of forward.
    request = workspace.request(parallel={"ranks_per_node": 2, "shard": 1, "device": "cpu"})
    whole, training = drill.unharmed("slow-unbroken", request), drill.training("slow", request=request)
    training.start()
    victim, at = training.reach(20, 1)[1], time.time()
    while training.process.poll() is None and not training.incidents("straggler") and time.time() - at < 60:
        training.kill(victim, signal.SIGSTOP)
        time.sleep(0.06)
        training.kill(victim, signal.SIGCONT)
        time.sleep(0.02)
    training.wait()
    drill.same(training, whole.digest())
    named = training.incidents("straggler")
    if not named or named[0]["rank"] != victim.rank:
        raise DrillFailed(f"the slow rank was not named: {named}")
    return Seen(named[0]["time"] - at, None, 0, f"rank {victim.rank} named, score {named[0]['score']}")


def corrupt_checkpoint(drill: Drill) -> Seen:
    """a byte of the newest checkpoint turns, then a rank dies"""
    training = drill.training("corrupt-checkpoint")
    training.start()
    training.until(lambda: len(_checkpoints(training)) == 2, "two checkpoints")
    victim = training.reach(50, 1)[1]
    for pulse in training.beats(1):  # nothing new is saved meanwhile
        training.kill(pulse, signal.SIGSTOP)
    newest = _checkpoints(training)[-1]
    largest = max(newest.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[-1] ^= 1
    largest.write_bytes(content)
    at = time.time()
    training.kill(victim)
    seen = drill.recovery(training, at)
    training.wait()
    drill.same(training)
    resumed, damaged = training.beats(2)[0].first, int(newest.name.removeprefix("step-"))
    if resumed >= damaged:
        raise DrillFailed(f"it resumed from step {resumed} although {newest.name} is damaged")
    seen.note = f"{newest.name} passed over, resumed from step {resumed}"
    return seen


def truncated_shard(drill: Drill) -> Seen:
    """the end of a shard of latents is missing"""
    data = workspace.make(drill.folder / "line-truncated")
    shard = max((data / "data/latents/low").glob("*.safetensors"), key=lambda path: path.stat().st_size)
    size = shard.stat().st_size
    os.truncate(shard, size - size // 100)
    training = drill.training("truncated-shard", data)
    training.start()
    training.wait()
    found = [path for path in training.scratch.glob("*.jsonl") if "unreadable" in path.name]
    named = [json.loads(line) for path in found for line in path.read_text().splitlines()]
    _finite(training)
    if not named:
        raise DrillFailed("the samples that cannot be read were not recorded")
    return Seen(None, None, 0, f"{len(named)} samples recorded and replaced")


def full_disk(drill: Drill) -> Seen:
    """checkpoints cannot be written any more (RLIMIT_FSIZE on the ranks)"""
    training = drill.training("full-disk")
    training.start()
    for pulse in training.reach(30, 1):
        resource.prlimit(pulse.pid, resource.RLIMIT_FSIZE, (16384, 16384))
    at = time.time()
    # Ranks that are started again have no such limit: as if somebody had made room.
    code = training.wait(code=None)
    told = training.incidents()
    if not told or not any(word in json.dumps(told) for word in ("File too large", "No space left", "not written")):
        raise DrillFailed(f"nobody was told of the disk: {told[-1:]}")
    detected, before = told[0]["detected"] - at, training.beats(1)[0]
    if code != 0:
        training.start()
        training.wait()
    drill.same(training)
    stopped = "stopped with a report; the same command went on" if code else "started again by itself"
    return Seen(detected, None, before.step - training.beats(2)[0].first, stopped)


def store_away(drill: Drill) -> Seen:
    """the object store goes away"""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise LeftOut("needs a local object store: pip install moto[server]") from error
    from goku_core.storage import Bucket

    request = workspace.request(checkpoint={"every": workspace.SAVED_EVERY, "remote": "s3://drill/run"})
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"AWS_ACCESS_KEY_ID": "drill", "AWS_SECRET_ACCESS_KEY": "drill", "AWS_DEFAULT_REGION": "us-east-1"}
        environment = keys | {"AWS_ENDPOINT_URL": url}
        urllib.request.urlopen(urllib.request.Request(f"{url}/drill", method="PUT")).close()
        with _environment(environment):
            bucket = Bucket("drill", "run/")
        training = drill.training("store-away", environment=environment, request=request)
        training.start()
        training.until(lambda: any("complete" in o.key for o in bucket.list()), "a checkpoint in the store", 0.3)
    finally:
        server.stop()
    training.wait()
    drill.same(training)
    return Seen(None, None, 0, "training went on, checkpoints on the local disk")


def tracker_away(drill: Drill) -> Seen:
    """the tracking server does not answer"""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"GOKU_DRILL_TRACKED": "1", "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    environment |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
    training = drill.training("tracker-away", environment=environment)
    training.start()
    training.wait()
    drill.same(training)
    spool = drill.data / ".goku/tracking" / f"{training.place.name}.jsonl"
    kept = sum('"metrics"' in line for line in spool.read_text().splitlines())
    if not kept:
        raise DrillFailed("metrics are nowhere: neither at the server nor in the spool")
    return Seen(None, None, 0, f"{kept} lines of metrics kept for later")


def sigterm(drill: Drill) -> Seen:
    """SIGTERM to the launcher, then the same command again"""
    training = drill.training("sigterm")
    training.start()
    launcher = training.launcher(training.reach(50, 1)[0])
    at = time.time()
    os.kill(launcher, signal.SIGTERM)
    training.wait(75)
    left = time.time() - at
    training.start()
    again = training.first_step_at(2)
    before, after = training.beats(1)[0], training.beats(2)[0]
    training.wait()
    drill.same(training)
    if after.first != before.step:
        raise DrillFailed(f"it left at step {before.step} and went on from {after.first}")
    return Seen(left, again - at, 0, f"saved and left {left:.1f} s after the signal")


def nan_gradient(drill: Drill) -> Seen:
    """a sample whose latent holds not a number"""
    training = drill.training("nan-gradient", workspace.make(drill.folder / "line-poisoned", poison=POISONED))
    training.start()
    training.wait()
    told = training.incidents("rewind")
    if not told or not any(f"{POISONED:04d}" in line["samples"] for line in told):
        raise DrillFailed(f"the poisoned sample was not named: {[line['samples'] for line in told]}")
    _finite(training)
    tail = [entry["loss"] for entry in training.log()][-10:]
    clean = drill.losses[-10:]
    if abs(sum(tail) - sum(clean)) > 0.1 * sum(clean):
        raise DrillFailed(
            f"it ends at a loss of {sum(tail) / 10:.3f}, the run without that sample at {sum(clean) / 10:.3f}"
        )
    steps = sum(line["steps"] for line in told)
    return Seen(
        0.0, sum(line["seconds"] for line in told), steps, f"left out data steps {[line['data_step'] for line in told]}"
    )


class LeftOut(Exception):
    """This fault cannot be injected here."""


FAULTS: dict[str, Callable[[Drill], Seen]] = {
    "kill-one": kill_one,
    "kill-all": kill_all,
    "hang": hang,
    "slow": slow,
    "corrupt-checkpoint": corrupt_checkpoint,
    "truncated-shard": truncated_shard,
    "full-disk": full_disk,
    "store-away": store_away,
    "tracker-away": tracker_away,
    "sigterm": sigterm,
    "nan-gradient": nan_gradient,
}


def _killed(drill: Drill, name: str, ranks: list[int]) -> Seen:
    training = drill.training(name)
    training.start()
    victims = training.reach(50, 1)
    at = time.time()
    for rank in ranks:
        training.kill(victims[rank])
    seen = drill.recovery(training, at)
    training.wait()
    drill.same(training)
    return seen


def _checkpoints(training: Training) -> list[Path]:
    return sorted(marker.parent for marker in (training.scratch / "checkpoints").glob("step-*/complete.json"))


def _finite(training: Training) -> None:
    for name in ("model.safetensors", "training.safetensors"):
        for key, tensor in load_file(training.place / "out/models/drill" / name).items():
            if not tensor.isfinite().all():
                raise DrillFailed(f"{name}: {key} is not finite")
    if not all(math.isfinite(entry["loss"]) for entry in training.log()):
        raise DrillFailed("a loss of the log is not finite")


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables of this process, for a while."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
