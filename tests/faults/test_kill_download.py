"""kill -9 while files arrive, then the same command: the rest arrives, nothing twice, the outputs of an unbroken run."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from media_server import MediaServer, film, media_server
from object_store import object_store

from goku_core.collect import Request
from goku_core.pipeline.executor import Outcome, execute
from goku_core.pipeline.line import Cell
from goku_core.storage import Bucket

SIZE = 4 << 20
PROGRAM = "import sys, test_kill_download as this; this.collect(this.Path.cwd(), sys.argv[1], int(sys.argv[2]))"


def collect(workspace: Path, source: str, threads: int) -> Outcome:
    request = Request(source=source, download={"threads": threads, "allow_hosts": ["127.0.0.1"]})
    cell = Cell("collect", "collect", request, tuple(request.inputs()), ("data/raw", "data/raw.parquet"))
    return execute(cell, workspace)


def killed_at(workspace: Path, source: str, size: int) -> None:
    """Starts a collection and kills it when a piece of `size` bytes has arrived."""
    here = Path(__file__)
    path = os.pathsep.join([str(here.parents[2]), str(here.parent), str(here.parents[1] / "workspaces")])
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, source, "4"], cwd=workspace, env=os.environ | {"PYTHONPATH": path}
    )
    end = time.monotonic() + 60
    while not any(arrived_of(piece) >= size for piece in pieces(workspace)):
        assert process.poll() is None and time.monotonic() < end, "it ended or waited in vain"
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (workspace / "data").exists(), "nothing half-done in sight"


def pieces(workspace: Path) -> list[Path]:
    return list((workspace / ".goku/cache/downloads/pieces").glob("*"))


def arrived_of(piece: Path) -> int:
    """Bytes of a piece; 0 where it has just become a whole file."""
    try:
        return piece.stat().st_size
    except FileNotFoundError:
        return 0


def large(seed: int) -> bytes:
    return film(seed, 64) + random.Random(seed).randbytes(SIZE - 64)


@pytest.mark.parametrize("threads", [4, 2], ids=["same-parameters", "other-parameters"])
def test_a_killed_download_goes_on(tmp_path: Path, threads: int) -> None:
    """Also with other parameters: the pieces do not belong to a fingerprint."""
    with media_server() as server:
        content = large(1)
        small = [server.put(f"/small-{i}.mp4", film(i)) for i in range(8)]
        big = server.put("/big.mp4", content, pause=0.02)
        (tmp_path / "list.txt").write_text("\n".join([*small, big]))
        killed_at(tmp_path, "list.txt", SIZE // 4)
        (piece,) = pieces(tmp_path)
        arrived = piece.stat().st_size
        assert content.startswith(piece.read_bytes()) and arrived < SIZE
        calm(server)
        outcome = collect(tmp_path, "list.txt", threads)
        last = server.asked("/big.mp4")[-1]
        assert (last.status, last.range) == (206, f"bytes={arrived}-") and last.if_range
        assert outcome.record.report["received_bytes"] == SIZE - arrived, "the small ones were there"
        if threads == 4:
            assert all(len(server.asked(f"/small-{i}.mp4")) == 1 for i in range(8)), "and nobody asked for them again"
        assert (tmp_path / f"data/raw/{hashlib.sha256(content).hexdigest()}.mp4").read_bytes() == content
        assert not pieces(tmp_path)
        (tmp_path / "calm").mkdir()
        (tmp_path / "calm/list.txt").write_text("\n".join([*small, big]))
        unbroken = collect(tmp_path / "calm", "list.txt", threads)
    assert outcome.record.output_digests() == unbroken.record.output_digests()


def calm(server: MediaServer) -> None:
    for page in server.pages.values():
        page.pause = 0.0


def test_a_killed_download_from_a_bucket_goes_on(tmp_path: Path) -> None:
    with object_store("cut-off"):
        contents = [large(seed) for seed in range(6)]
        for i, content in enumerate(contents):
            (tmp_path / "film").write_bytes(content)
            Bucket("cut-off").put(tmp_path / "film", f"{i}.mp4")
        workspace = tmp_path / "w"
        workspace.mkdir()
        killed_at(workspace, "s3://cut-off", 1 << 20)
        arrived = sum(
            file.stat().st_size for file in (workspace / ".goku/cache/downloads").rglob("*") if len(file.name) == 64
        )
        outcome = collect(workspace, "s3://cut-off", 4)
    assert outcome.record.report["kept"] == 6
    assert outcome.record.report["received_bytes"] == 6 * SIZE - arrived
    assert {file.stem for file in (workspace / "data/raw").iterdir()} == {
        hashlib.sha256(c).hexdigest() for c in contents
    }
