"""`precompute` killed with -9, a worker lost, a source that cannot be read: finished shards stay, and no byte differs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import shapes_workspace
from shapes_workspace import files_of, make_workspace, precompute

from goku_core.precompute import stage
from goku_core.shards import ShardReader

PROGRAM = Path(shapes_workspace.__file__)
ROWS = 2  # in a batch


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("kill") / "w", pictures=9, clips=3)


@pytest.fixture(scope="module", autouse=True)
def small_batches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "ROWS_AT_MOST", ROWS)
        yield


@pytest.fixture(scope="module")
def unbroken(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("unbroken")
    report = precompute(workspace, place)
    assert report.failed == [] and report.resumed_batches == 0 and report.shards == {"low": 6, "high": 6}
    return files_of(place / "out")


def test_a_killed_run_goes_on_with_the_shards_that_were_finished(workspace: Path, unbroken, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(PROGRAM), str(workspace), str(tmp_path), str(ROWS)]
    batches, end = tmp_path / "scratch/batches", time.monotonic() + 120
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while not list(batches.glob("[0-9]*.parquet")):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.002)
        process.kill()
    time.sleep(0.3)  # its worker ends with it, at the next chance the system has
    finished = {path.name: path.stat().st_mtime_ns for path in batches.glob("[0-9]*.parquet")}
    assert 0 < len(finished) < 6, "killed too late to show anything"

    # A shard that a power cut has damaged is made again too, and nothing else is.
    damaged = next((tmp_path / "scratch/shards/high").glob("*.safetensors")) if len(finished) > 1 else None
    if damaged:
        damaged.write_bytes(damaged.read_bytes()[:-1])
    shutil.rmtree(tmp_path / "out")
    report = precompute(workspace, tmp_path)
    assert report.resumed_batches == len(finished) - (damaged is not None)
    kept = [name for name, time_ns in finished.items() if (batches / name).stat().st_mtime_ns == time_ns]
    assert len(kept) == report.resumed_batches
    assert files_of(tmp_path / "out") == unbroken


def test_a_lost_worker_changes_no_byte_and_costs_no_clip(workspace: Path, unbroken, tmp_path: Path) -> None:
    lost: list[int] = []

    def kill_a_worker() -> None:
        while not list((tmp_path / "scratch/batches").glob("[0-9]*.parquet")):
            time.sleep(0.002)
        for child in _children():
            os.kill(child, signal.SIGKILL)
            lost.append(child)

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    report = precompute(workspace, tmp_path)
    killer.join()
    assert lost and report.failed == []
    assert files_of(tmp_path / "out") == unbroken


def test_a_source_that_cannot_be_read_is_one_failure(workspace: Path, unbroken, tmp_path: Path) -> None:
    other = tmp_path / "w"
    shutil.copytree(workspace, other)
    (other / "data/raw/10.mp4").write_bytes(b"no video any more")
    report = precompute(other, tmp_path / "one")
    (failed,) = report.failed
    assert failed.startswith(f"{10:064x}:") and "exception" in failed
    assert report.samples == {"low": 11, "high": 11}
    media = set(ShardReader(tmp_path / "one/out/data/latents/low").index["media_id"])
    assert media == {f"{n:064x}" for n in range(12) if n != 10}
    # The batches without it are those of the whole data set.
    same = [name for name, content in files_of(tmp_path / "one/out").items() if unbroken.get(name) == content]
    assert sum(name.endswith(".safetensors") for name in same) == 10


def _children() -> list[int]:
    """Worker processes of this one."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            words = status.with_name("cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        if int(fields[1]) == os.getpid() and b"goku_core.pipeline.pool" in words:
            found.append(int(status.parent.name))
    return found
