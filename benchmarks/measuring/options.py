"""Options that every benchmark has."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

RESULTS = Path(__file__).resolve().parents[1] / "results"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def parser(name: str, doc: str) -> argparse.ArgumentParser:
    """--device, --dtype, --small, --quick, --repeats, --threads, --out; `doc` is the benchmark's docstring."""
    options = argparse.ArgumentParser(
        prog=f"goku bench {name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = "cuda" if torch.cuda.is_available() else "cpu"
    options.add_argument("--device", default=default, choices=("cpu", "cuda"), help=f"[here: {default}]")
    options.add_argument("--dtype", choices=tuple(DTYPES), help="[cuda: bfloat16, cpu: float32]")
    options.add_argument("--small", action="store_true", help="tiny sizes: does it run? Its figures mean nothing")
    options.add_argument("--quick", action="store_true", help="the smallest real size, few repeats")
    options.add_argument("--repeats", type=_positive, help="of each side, alternating [depends on the size]")
    options.add_argument("--threads", type=_positive, help="CPU threads [all cores]")
    options.add_argument(
        "--out", type=Path, help="folder of the result file [benchmarks/results; none with --small or --quick]"
    )
    return options


def settle(options: argparse.Namespace) -> argparse.Namespace:
    """Fills in what depends on the device and applies the threads. Exits with one line where the device is not there."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch sees no CUDA device here. Use --device cpu")
    options.dtype = options.dtype or ("bfloat16" if options.device == "cuda" else "float32")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.out is None and not (options.small or options.quick):
        options.out = RESULTS
    torch.manual_seed(0)
    if options.device == "cpu":
        keep_freed_memory()
    return options


def keep_freed_memory() -> None:
    """As training on a CPU does (both sides gain: the process is one); without the full installation nothing happens."""
    try:
        from goku_core.train.memory import keep_freed_memory
    except ImportError:
        return
    keep_freed_memory()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: at least 1")
    return value
