"""Is this machine fit to train on? `python -m goku_core.train.health.selfcheck FOLDER`: a process of its own, as it may hang.

Disk, memory and arithmetic of every processor, by results that are known beforehand; the object store where there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from goku_core.pipeline.errors import GokuError

SIDE = 512  # of the matrices; all products and sums are integers below 2**24, exact in any order in float32
PRODUCT = "e450ac462c2a3bde5beb035f3af4f971c0f573128072934176105c7693994963"
DISK_BYTES, MEMORY_BYTES = 8 << 20, 256 << 20
LEAST_FREE = 1 << 30
TIME_LIMIT = 120.0


@dataclass(frozen=True)
class Finding:
    """ok: fit. found: what was measured, or what is wrong and what to do."""

    what: str
    ok: bool
    found: str


def examine(folder: Path, store: str | None = None) -> Iterator[Finding]:
    """All checks that apply to this machine. `store`: s3://bucket/prefix."""
    yield _checked("disk", lambda: _disk(folder))
    yield _checked("memory", _memory)
    yield _checked("matmul on the processor", _matmul)
    for device in range(_gpus()):
        yield _checked(f"matmul on GPU {device}", lambda device=device: _matmul_on_gpu(device))
    if store:
        yield _checked("object store", lambda: _store(store))


def examine_in_child(folder: Path, store: str | None = None, seconds: float = TIME_LIMIT) -> list[Finding]:
    """The same in a process that is given up after a while: a disk or a GPU that hangs is a finding too."""
    command = [
        sys.executable,
        "-m",
        "goku_core.train.health.selfcheck",
        str(folder),
        *(["--store", store] if store else []),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        seen = (late.stdout or b"").decode(errors="replace") if isinstance(late.stdout, bytes) else (late.stdout or "")
        found = [Finding(**json.loads(line)) for line in seen.splitlines()]
        return [*found, Finding("self-check", False, f"gave no answer for {seconds:.0f} s after {len(found)} checks")]
    found = [Finding(**json.loads(line)) for line in done.stdout.splitlines()]
    if done.returncode not in (0, 1):
        found.append(Finding("self-check", False, f"ended with code {done.returncode}: {done.stderr[-500:].strip()}"))
    return found


def _checked(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except (OSError, MemoryError, RuntimeError, GokuError) as error:
        return Finding(what, False, str(error) or type(error).__name__)


def _disk(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    needed = max(LEAST_FREE, 3 * _newest_checkpoint_bytes(folder))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{free / 2**30:.1f} GiB are free in {folder}, checkpoints need {needed / 2**30:.1f} GiB; free some space"
        )
    content = np.random.default_rng(0).bytes(DISK_BYTES)
    path = folder / f".selfcheck-{os.getpid()}"
    try:
        started = time.monotonic()
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):  # what is read below then comes from the disk
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        written = time.monotonic() - started
        if path.read_bytes() != content:
            raise OSError(f"{folder} gives back other bytes than were written; do not use this disk")
    finally:
        path.unlink(missing_ok=True)
    return f"{DISK_BYTES / written / 1e6:.0f} MB/s written durably, {free / 2**30:.0f} GiB free"


def _newest_checkpoint_bytes(folder: Path) -> int:
    newest = max(folder.glob("checkpoints/step-*"), default=None)
    return 0 if newest is None else sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())


def _memory() -> str:
    for pattern in (0x55, 0xAA):
        block = np.full(MEMORY_BYTES, pattern, np.uint8)
        if int(block.min()) != pattern or int(block.max()) != pattern:
            raise OSError("main memory gives back other bytes than were written; replace the machine")
    info = Path("/proc/meminfo")
    if not info.is_file():
        return f"{MEMORY_BYTES >> 20} MiB written and read"
    values = dict(line.split(":") for line in info.read_text().splitlines())
    return f"{int(values['MemAvailable'].split()[0]) / 2**20:.1f} GiB available"


def matrices() -> tuple[np.ndarray, np.ndarray]:
    """Two matrices of small integers."""
    row, column = np.indices((SIDE, SIDE))
    return (row * 37 + column * 17) % 17 - 8, (row * 29 + column * 11) % 13 - 6


def digest(product: np.ndarray) -> str:
    return hashlib.sha256(product.astype("<i4").tobytes()).hexdigest()


def _matmul() -> str:
    first, second = matrices()
    started = time.monotonic()
    for kind in (np.float32, np.float64):
        _compare(digest(first.astype(kind) @ second.astype(kind)), "the processor")
    return f"exact, {2 * 2 * SIDE**3 / (time.monotonic() - started) / 1e9:.0f} GFLOP/s"


def _gpus() -> int:
    """Asked without torch where there is no device: importing it takes seconds."""
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        return 0
    import torch

    return torch.cuda.device_count()


def _matmul_on_gpu(device: int) -> str:
    import torch

    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    first, second = (torch.from_numpy(matrix).to(f"cuda:{device}", torch.float32) for matrix in matrices())
    product = first @ second
    _compare(digest(product.cpu().numpy()), f"GPU {device}")
    if not torch.equal(first.bfloat16() @ second.bfloat16(), product.bfloat16()):
        raise RuntimeError(f"GPU {device} computes a wrong product in bfloat16; take it out of service")
    return f"exact on {torch.cuda.get_device_name(device)}"


def _compare(found: str, where: str) -> None:
    if found != PRODUCT:
        raise RuntimeError(
            f"{where} computes a wrong matrix product ({found[:12]} instead of {PRODUCT[:12]}); take it out of service"
        )


def _store(url: str) -> str:
    from goku_core.storage import Bucket, split_url

    name, prefix = split_url(url)
    started = time.monotonic()
    next(Bucket(name, prefix).list(page=1), None)
    return f"{url} answers after {(time.monotonic() - started) * 1000:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description="Examine this machine; one JSON line per check.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store")
    given = parser.parse_args()
    fit = True
    for finding in examine(given.folder, given.store):
        print(json.dumps(asdict(finding)), flush=True)
        fit &= finding.ok
    sys.exit(0 if fit else 1)


if __name__ == "__main__":
    main()
