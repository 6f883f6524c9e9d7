"""VAE training that was killed ends as the unbroken one, discriminator and its optimizer included."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from vae_workspace import train_vae

from goku_core.vae import checkpoint

WORKSPACES = Path(__file__).resolve().parents[1] / "workspaces"
STEPS = 60


def outputs(place: Path) -> dict[str, bytes]:
    folder = place / "out/models/vae"
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def start(workspace: Path, place: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(WORKSPACES / "vae_workspace.py"), str(workspace), str(place), str(STEPS)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_killed_training_ends_as_the_unbroken_one(kept_media: Path, tmp_path: Path) -> None:
    train_vae(kept_media, tmp_path / "unbroken", steps=STEPS)
    checkpoints = tmp_path / "broken/scratch/checkpoints"
    process = start(kept_media, tmp_path / "broken")
    while process.poll() is None and not list(checkpoints.glob("step-*.safetensors")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed: make it longer"
    assert not (tmp_path / "broken/out").exists()
    report = train_vae(kept_media, tmp_path / "broken", steps=STEPS)
    assert 0 < report.resumed_from < STEPS
    assert outputs(tmp_path / "broken") == outputs(tmp_path / "unbroken")


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(kept_media: Path, tmp_path: Path, damage: str) -> None:
    train_vae(kept_media, tmp_path / "run")
    expected = outputs(tmp_path / "run")
    older, newest = sorted((tmp_path / "run/scratch/checkpoints").glob("step-*.safetensors"))
    content = newest.read_bytes()
    newest.write_bytes(
        content[: len(content) // 2] if damage == "truncate" else content[:-1] + bytes([content[-1] ^ 1])
    )
    assert checkpoint.newest_valid(newest.parent) == older
    (tmp_path / "run/out").rename(tmp_path / "first")
    report = train_vae(kept_media, tmp_path / "run")
    assert report.resumed_from == 8 and older.name.startswith("step-00000008-")
    assert outputs(tmp_path / "run") == expected
