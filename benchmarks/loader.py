"""Samples per second from disk to float32 tensors in shuffled order, seconds to the first batch, and to resume mid-epoch.

Measures the claims: no slower than webdataset, and resuming costs what starting costs, because a step's samples are known
without those before it, where webdataset reads its way there. Sides: the project's shards by one thread and by two, each
sample checked against its checksum (and unchecked), whole packs with noise and times as training gets them; webdataset in
this process and in two workers; and the limit, a plain memory map that checks nothing. The data set is written by the
project's own writer in the same run, three pictures to a clip of 17 frames at 480x864 px, and lies in the page cache. Peak
memory is that of a process of its own that reads one epoch: what it allocates beyond its imports, mapped files not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from benchmarks.measuring import layouts
from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result

CLAIM = "Reading latents in shuffled order: samples per second, seconds to the first batch and to resume, peak memory"
PICTURE, CLIP = (16, 1, 60, 108), (16, 5, 60, 108)  # channels, latent frames, rows, columns at 480x864 px
TEXT = (64, 256)  # tokens and width of a text
BATCH = 32
Opened = Callable[[Path, int], Iterator[object]]


def main(arguments: list[str] | None = None) -> Result | None:
    options = parser("loader", __doc__)
    options.add_argument("--megabytes", type=int, default=768, help="of latents [768]")
    options.add_argument("--alone", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    options = options.parse_args(arguments)
    options.threads = options.threads or 1  # of torch; readers have their own
    if options.alone:
        print(json.dumps(_peak(options.alone[0], Path(options.alone[1]))))
        return None
    options = settle(options)
    del options.alone
    result = Result("loader", CLAIM, options)
    shapes = _shapes(options)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        result.say(f"writing {len(shapes)} samples in three layouts")
        layouts.write(folder, shapes, (4, 16) if options.small else TEXT)
        measure(result, folder, len(shapes))
    result.finish()
    return result


def _shapes(options: argparse.Namespace) -> list[tuple[int, ...]]:
    if options.small:
        return [(4, 2, 4, 6) if number % 4 == 3 else (4, 1, 4, 6) for number in range(64)]
    mean = 2 * 16 * 60 * 108 * (3 + 5) / 4
    count = int((options.megabytes if not options.quick else 128) * 2**20 / mean)
    return [CLIP if number % 4 == 3 else PICTURE for number in range(count)]


def measure(result: Result, folder: Path, samples: int) -> None:
    options, sides = result.options, _sides()
    repeats = options.repeats or (2 if options.small or options.quick else 5)
    cases: dict[str, Callable[[Opened], None]] = {
        "epoch": lambda opened: _taken(opened(folder, 0), samples),
        "first batch": lambda opened: _taken(opened(folder, 0), BATCH),
        "resume mid-epoch": lambda opened: _taken(opened(folder, samples // 2), min(BATCH, samples - samples // 2)),
    }
    for case, take in cases.items():
        calls = {name: partial(take, opened) for name, opened in sides.items()}
        pairs = [(own, other) for own in ("goku", "goku, 2 threads") for other in sides if not other.startswith("goku")]
        amounts = {"samples": float(samples)} if case == "epoch" else {}
        result.measure(case, calls, pairs, repeats=repeats, per_call=amounts)
    for row in [row for row in result.rows if row["case"] == "epoch"]:
        # Workers are processes of their own, which this does not see; at tiny size one side shows that it runs.
        if "workers" not in row["side"] and not (options.small and row["side"] != "goku"):
            result.say(f"memory: {row['side']}")
            command = [sys.executable, "-m", "benchmarks.loader", "--alone", row["side"], str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row |= json.loads(done.stdout.splitlines()[-1])
    if not layouts.installed():
        result.note(layouts.MISSING)
    result.note("goku packs: also noise, times, noised latents and packing, of 64 samples a step")
    result.note(f"webdataset shuffles in a buffer of {layouts.SHUFFLED} samples, ours and the memory map over all")


def _sides() -> dict[str, Opened]:
    sides: dict[str, Opened] = {
        "goku": layouts.shards,
        "goku, unchecked": partial(layouts.shards, checked=False),
        "goku, 2 threads": partial(layouts.shards, threads=2),
        "goku packs": packs,
        "memory map (limit)": layouts.memory_map,
    }
    if layouts.installed():
        sides |= {"webdataset": layouts.webdataset, "webdataset, 2 workers": partial(layouts.webdataset, workers=2)}
    return sides


def packs(folder: Path, begin: int = 0) -> Iterator[object]:
    """What training gets: one item per sample, though they come in packs."""
    from goku_core.models.text import WordEncoder
    from goku_core.train import Request
    from goku_core.train.data import Loader, Packer, open_latents
    from goku_core.train.data_request import Data

    data = Data(cache_megabytes=0)
    reader = open_latents(data, folder / "low")
    kinds, lengths = reader.index["kind"], reader.index["tokens"]
    images, tokens = float((kinds == "image").mean()), int(layouts.STEP * lengths.mean())
    phase = {"init_from": "vae", "resolution": "low", "steps": 1, "images": images, "clips": 1 - images}
    request = Request(phases={"first": phase | {"tokens": tokens}}, data=data)
    width = int(reader.index["text_shape"][0][1])
    packer = Packer(reader, request.phases["first"], request, WordEncoder(width, 64), 0)
    loader = Loader(packer, ahead=2, threads=2)
    left = len(reader) - begin
    try:
        for step in range(begin // layouts.STEP, 10**9):
            for name in [name for pack in loader.step(step) for name in pack.ids]:
                yield name
                left -= 1
                if left == 0:
                    return
    finally:
        loader.close()


def _taken(samples: Iterator[object], count: int) -> None:
    """Takes `count` samples and lets go of the reader. Raises RuntimeError where there are fewer: it would look fast."""
    found = sum(1 for _ in islice(samples, count))
    samples.close()
    if found < count:
        raise RuntimeError(f"{found} samples instead of {count}")


def _peak(side: str, folder: Path) -> dict[str, float]:
    """MiB that reading an epoch allocates, looked at every few milliseconds; nothing where there is no /proc."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return {}
    torch.set_num_threads(1)
    opened = _sides()[side]
    _taken(opened(folder, 0), 1)  # imports
    before, most, done = _allocated(status), [0], threading.Event()

    def look() -> None:
        while not done.is_set():
            most[0] = max(most[0], _allocated(status))
            time.sleep(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in opened(folder, 0):
        pass
    done.set()
    watcher.join()
    return {"peak_mib": max(0, most[0] - before) / 1024}


def _allocated(status: Path) -> int:
    """KiB of this process that are no mapped file."""
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem"))


if __name__ == "__main__":
    main()
