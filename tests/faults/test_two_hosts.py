"""Training across two hosts, and what may befall one of them. Each run ends with the bits of the unbroken one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_rank
import torch
import yaml
from latent_workspace import make_workspace
from two_hosts import ROOT, Host, two_hosts, why_not

from goku_core.pipeline.files import read_json_lines
from goku_core.train.health.heart import Pulse, pulses

pytestmark = [pytest.mark.platform, pytest.mark.skipif(bool(why := why_not()), reason=str(why))]

FAULTS = {
    "hang_floor_seconds": 5.0,
    "look_seconds": 0.1,
    "backoff_seconds": 0.1,
    "self_check": False,
}
STEPS, PORT = 160, 29400


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with two_hosts() as pair:
        yield pair


@pytest.fixture(scope="module")
def unbroken() -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    return small_rank.reference({"seed": 7, "steps": STEPS}, ranks=2)


def make_job(place: Path) -> Path:
    job = {"scratch": str(place), "seed": 7, "steps": STEPS, "checkpoint_every": 20, "pause": 0.02, "cores": 2}
    file = place / "job.json"
    file.write_text(json.dumps(job | {"request": {"faults": FAULTS}}))
    return file


def start(host: Host, node: int, job: Path, leader: Host) -> subprocess.Popen:
    command = [sys.executable, "-m", "goku_core.train.launch", str(job), "--module", "small_rank", "--ranks", "1"]
    command += ["--nodes", "2", "--endpoint", f"{leader.address}:{PORT}", "--node", str(node), "--silence-seconds", "4"]
    return host.start(command, job.parent / f"launcher-{node}-{len(host.processes)}.log")


def beats(place: Path, attempt: int) -> list[Pulse]:
    return pulses(place / "hearts" / f"attempt-{attempt:04d}")


def wait_for_step(place: Path, attempt: int, step: int, process: subprocess.Popen, seconds: float = 120.0) -> None:
    def reached() -> bool:
        found = beats(place, attempt)
        return len(found) == 2 and all(pulse.step >= step for pulse in found)

    wait_for(reached, place, process, seconds)


def wait_for(condition: Callable[[], bool], place: Path, process: subprocess.Popen, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, logs(place)
        assert process.poll() is None, logs(place)
        time.sleep(0.02)


def logs(place: Path) -> str:
    return "\n".join(f"{file.name}:\n{file.read_text()[-3000:]}" for file in sorted(place.glob("launcher-*.log")))


def failures(place: Path) -> list[dict]:
    return [line["failure"] for line in read_json_lines(place / "attempts.jsonl") if line["event"] == "end"]


def same(job: Path, unbroken: dict[str, torch.Tensor]) -> bool:
    """Bit for bit?"""
    found = small_rank.outcome(json.loads(job.read_text()))
    return found.keys() == unbroken.keys() and all(torch.equal(found[name], unbroken[name]) for name in found)


@pytest.mark.slow  # as with the pods below, here to the bit of a run without ranks, a launcher, checkpoints
def test_a_host_dies_and_comes_back(tmp_path: Path, hosts: tuple[Host, Host], unbroken: dict) -> None:
    """kill -9 of all that runs on one host, as when its pod is taken away; another launcher stands there a little later."""
    job, (first, second) = make_job(tmp_path), hosts
    leader = start(first, 0, job, first)
    start(second, 1, job, first)
    wait_for_step(tmp_path, 1, 50, leader)
    ranks = beats(tmp_path, 1)
    assert {pulse.node for pulse in ranks} == {0, 1}
    second.kill()
    killed = time.time()
    back = start(second, 1, job, first)
    assert leader.wait(100) == 0 and back.wait(30) == 0, logs(tmp_path)
    lost, none = failures(tmp_path)
    assert lost["kind"] == "node bad" and lost["node"] == 1 and none is None
    assert lost["at"] - killed < 30
    assert 40 <= beats(tmp_path, 2)[0].first <= 60, "it went on from a checkpoint"
    assert same(job, unbroken)


def test_a_host_falls_silent(tmp_path: Path, hosts: tuple[Host, Host], unbroken: dict) -> None:
    """The cable is pulled: nobody hears that a connection is closed. Both sides find out, and meet again when it is back."""
    job, (first, second) = make_job(tmp_path), hosts
    leader = start(first, 0, job, first)
    follower = start(second, 1, job, first)
    wait_for_step(tmp_path, 1, 50, leader)
    second.unplug()
    pulled = time.time()
    wait_for(lambda: follower.poll() is not None, tmp_path, leader, 60)
    assert follower.returncode == 75, logs(tmp_path)  # without a leader it leaves, to be started again
    second.plug()
    back = start(second, 1, job, first)
    assert leader.wait(100) == 0 and back.wait(30) == 0, logs(tmp_path)
    lost, none = failures(tmp_path)
    assert lost["kind"] == "node bad" and lost["node"] == 1 and none is None
    assert lost["at"] - pulled < 30
    assert same(job, unbroken)


def make_line(place: Path, **parallel: int) -> Path:
    """A workspace with latents, and parameters of one phase of real training on them."""
    workspace = make_workspace(place)
    params = yaml.safe_load((ROOT / "params/nano.yaml").read_text())
    phase = params["train"]["phases"]["text_semantic"] | {"init_from": "vae", "resolution": "low", "steps": 40}
    params["train"] |= {"phases": {"first": phase | {"tokens": 48, "warmup": 2}}, "log_every": 10}
    params["train"]["model"] = {"name": "custom", "depth": 2, "width": 32, "heads": 2, "ffn": 64}
    params["train"]["parallel"] |= {"device": "cpu", "shard": 1, **parallel}
    params["train"]["faults"] |= {"self_check": False, "backoff_seconds": 0.1}
    params["train"]["checkpoint"] |= {"every": 10}
    params["train"]["previews"] = {"images": ["a red circle"], "clips": []}
    params["train"]["sampling"]["steps"] = 2
    params["precompute"]["resolutions"] = {"low": params["precompute"]["resolutions"].popitem()[1]}
    models = {"image_model": "first", "video_model": None, "image_to_video_model": None}
    params["evaluate"] |= models
    params["promote"] |= models
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return workspace


def weights(workspace: Path) -> dict[str, bytes]:
    return {
        name: (workspace / "models/first" / name).read_bytes() for name in ("model.safetensors", "training.safetensors")
    }


def test_pods_of_a_training_job(tmp_path: Path, hosts: tuple[Host, Host]) -> None:
    """What the pods of a TrainJob run, on two hosts; one of them is killed and replaced, as Kubernetes replaces a pod."""
    line, alone = make_line(tmp_path / "line", nodes=2), make_line(tmp_path / "alone", ranks_per_node=2)
    first, second = hosts

    def pod(host: Host, node: int, workspace: Path = line) -> subprocess.Popen:
        command = [sys.executable, "-m", "goku_core.cli", "node", "train@first"]
        log = tmp_path / f"launcher-{node}-{len(host.processes)}.log"
        environment = {"GOKU_NODE": str(node), "GOKU_ENDPOINT": f"{first.address}:{PORT}"}
        return host.start(
            command, log, workspace, GOKU_CORES="1", **environment
        )  # as many threads add up in another order

    leader = pod(first, 0)
    pod(second, 1)

    def saved() -> bool:
        return bool(list(line.glob(".goku/scratch/*/checkpoints/step-*")))

    wait_for(saved, tmp_path, leader)
    second.kill()
    back = pod(second, 1)
    assert leader.wait(120) == 0, logs(tmp_path)
    assert back.poll() is None, "it waits for the next phase until it is told to leave"
    unbroken = pod(first, 0, alone)
    assert unbroken.wait(90) == 0, logs(tmp_path)
    assert weights(line) == weights(alone)
    said = (tmp_path / "launcher-0-0.log").read_text()
    assert "starting again" in said and "resuming from step 10" in said, said
    back.send_signal(signal.SIGTERM)
    assert back.wait(20) == 75
