"""GPUs by name, and the rates of their kernels: measured here where a benchmark has been run, else published ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError

# bfloat16 matrix products at the widths of 1b, 2b and 8b, as shares of the peak: 560, 620 and 680 of 989 TFLOP/s on Hopper.
MATMUL_SHARE = {1152: 0.566, 1792: 0.627, 3072: 0.688}
# Norms, rotary embedding, modulation and residuals, over matrix products and attention.
EVERYTHING_ELSE = 0.08


@dataclass(frozen=True)
class Rates:
    """Seconds per operation, the other way round.

    matmul               FLOP/s of matrix products
    attention_forward    FLOP/s; two products over the pairs that see each other
    attention_backward   FLOP/s; five such products, as the kernel makes them
    everything_else      seconds of all other kernels over those of these two
    source               where the figures are from
    """

    matmul: float
    attention_forward: float
    attention_backward: float
    everything_else: float
    source: str


@dataclass(frozen=True)
class Device:
    """One GPU. Bandwidths in bytes/s in one direction, of one GPU.

    memory   GiB that a process can have
    peak     FLOP/s, dense bfloat16, of the maker's data sheet
    attention  published TFLOP/s by head width: forward, backward
    """

    name: str
    memory: float
    peak: float
    hbm: float
    node_link: float
    network: float
    attention: dict[int, tuple[float, float]]
    attention_source: str


FLASH3 = "FlashAttention 3 at 16k tokens (paper's figures); backward from memory of its figures, not checked"
DEVICES = {
    "a100": Device(
        "a100", 79.0, 312e12, 2.0e12, 300e9, 25e9, {64: (190.0, 165.0), 128: (200.0, 180.0)},
        "FlashAttention 2 on A100: about 60 % of the peak, within the 50 to 73 % of its abstract",
    ),
    "h100": Device("h100", 79.0, 989e12, 3.35e12, 450e9, 50e9, {64: (487.0, 430.0), 128: (640.0, 550.0)}, FLASH3),
    "h200": Device("h200", 139.0, 989e12, 4.8e12, 450e9, 50e9, {64: (487.0, 430.0), 128: (640.0, 550.0)}, FLASH3),
    "b200": Device(
        "b200", 178.0, 2250e12, 8.0e12, 900e9, 50e9, {64: (1220.0, 1080.0), 128: (1605.0, 1380.0)},
        "FlashAttention 4, 1605 TFLOP/s forward at head width 128; the rest in Hopper's proportions, not published",
    ),
}  # fmt: skip


def device(name: str) -> Device:
    if name not in DEVICES:
        raise GokuError(f"--gpu {name}: known are {', '.join(DEVICES)}.")
    return DEVICES[name]


def published(gpu: Device, width: int, head_width: int) -> Rates:
    """Rates at a network's width: matrix products by interpolation, attention of the nearest head width."""
    nearest = min(gpu.attention, key=lambda known: abs(known - head_width))
    forward, backward = gpu.attention[nearest]
    return Rates(
        matmul=_interpolated(width) * gpu.peak,
        attention_forward=forward * 1e12,
        attention_backward=backward * 1e12,
        everything_else=EVERYTHING_ELSE,
        source=f"published, not measured here: matrix products at Hopper's share of the peak; {gpu.attention_source}",
    )


def _interpolated(width: int) -> float:
    known = sorted(MATMUL_SHARE)
    if width <= known[0]:
        return MATMUL_SHARE[known[0]]
    for low, high in pairwise(known):
        if width <= high:
            part = (width - low) / (high - low)
            return MATMUL_SHARE[low] * (1 - part) + MATMUL_SHARE[high] * part
    return MATMUL_SHARE[known[-1]]


def measured(file: Path, model: str) -> Rates:
    """Rates from a result file of `goku bench roofline`: of the network named `model` where it was measured, else of all in it.

    Raises `GokuError` where the file is no such result.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        rows = found["rows"] if found["benchmark"] == "roofline" else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GokuError(f"{file}: no result of `goku bench roofline` ({error}).") from error
    own = [row for row in rows if row["case"].startswith(f"{model},")] or rows
    matmul = _mean(own, "matmul, one block")
    attention = _mean([row for row in own if row["side"].endswith("(used)")], "self-attention")
    others = [one / two for one, two in zip(_seconds(own, "step"), _seconds(own, "roofline"), strict=True)]
    if not matmul or not attention or not others:
        raise GokuError(
            f"{file}: has no rows of matrix products, attention and a step. Run `goku bench roofline` again."
        )
    # The benchmark counts attention's backward twice its forward and times both together; the kernel makes 2.5 times.
    kernel = attention * 3.5 / 3.0
    on = found["machine"]["device"]
    source = (
        f"measured by goku bench roofline on {on}, {found['date']} ({', '.join(dict.fromkeys(r['case'] for r in own))})"
    )
    return Rates(matmul, kernel, kernel, max(0.0, sum(others) / len(others) - 1.0), source)


def _mean(rows: list[dict[str, Any]], side: str) -> float:
    """FLOP/s."""
    rates = [row["tflop_per_s"] * 1e12 for row in rows if row["side"].startswith(side)]
    return sum(rates) / len(rates) if rates else 0.0


def _seconds(rows: list[dict[str, Any]], side: str) -> list[float]:
    return [row["median_s"] for row in rows if row["side"] == side]


def result_file(gpu: Device, folder: Path) -> Path | None:
    """Newest result of `goku bench roofline` on such a GPU in a folder of results."""
    found = [path for path in folder.glob("roofline-*.json") if gpu.name in path.stem.split("-")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def with_memory(gpu: Device, gigabytes: float | None) -> Device:
    return gpu if gigabytes is None else replace(gpu, memory=gigabytes)
