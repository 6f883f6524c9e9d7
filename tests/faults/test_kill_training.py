"""kill -9 during training, at moments that the test does not choose: run again, and the result is the unbroken run's."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from latent_workspace import make_workspace, train

from goku_core.train.checkpoint import Checkpoint, Checkpoints

WORKSPACES = Path(__file__).resolve().parents[1] / "workspaces"
STEPS = 160


def outputs(place: Path) -> dict[str, bytes]:
    folder = place / "out/models/first"
    return {f: (folder / f).read_bytes() for f in ("model.safetensors", "training.safetensors", "metrics.jsonl")}


def start(workspace: Path, place: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(WORKSPACES / "latent_workspace.py"), str(workspace), "first", str(place), str(STEPS)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_killed_runs_end_as_the_unbroken_one(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "line")
    assert start(workspace, tmp_path / "unbroken").wait() == 0
    checkpoints = tmp_path / "broken/scratch/checkpoints"
    draws, kills = random.Random(4), 0
    while kills < 2:
        seen = {p.name for p in checkpoints.glob("step-*")}
        process = start(workspace, tmp_path / "broken")
        while process.poll() is None and {p.name for p in checkpoints.glob("step-*")} == seen:
            time.sleep(0.005)
        time.sleep(draws.uniform(0, 0.2))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        assert process.returncode in (0, -signal.SIGKILL), "it ended by itself, and not well"
        if process.returncode == 0:
            break
    assert kills >= 1, "the run ended before it could be killed: make it longer"
    assert start(workspace, tmp_path / "broken").wait() == 0
    assert outputs(tmp_path / "broken") == outputs(tmp_path / "unbroken")


@pytest.mark.parametrize("damage", ["truncate", "flip", "no marker"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    workspace = make_workspace(tmp_path / "line")
    train(workspace, "first", tmp_path / "unbroken")
    train(workspace, "first", tmp_path / "broken")
    older, newest = sorted((tmp_path / "broken/scratch/checkpoints").glob("step-*"))
    victim = newest / ("complete.json" if damage == "no marker" else "ema-00000-00.safetensors")
    content = victim.read_bytes()
    if damage == "no marker":
        victim.unlink()
    elif damage == "truncate":
        victim.write_bytes(content[: len(content) // 2])
    else:
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = Checkpoints(newest.parent).newest()
    assert found == Checkpoint(older, int(older.name.removeprefix("step-")))
    import shutil

    shutil.rmtree(tmp_path / "broken/out")
    report = train(workspace, "first", tmp_path / "broken")
    assert report.resumed_from == json.loads((older / "state.json").read_text())["step"]
    assert outputs(tmp_path / "broken") == outputs(tmp_path / "unbroken")
