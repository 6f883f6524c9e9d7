"""Random access to stored latents from the page cache in one process, against other layouts and the copy of memory itself.

Measures the claim: at least 1 GB/s. Every side delivers the same float16 latents into one buffer that is used again, as
collating a pack does, so that every byte is touched. Ours reads `ShardReader` rows in random order. The peers: a file per
sample (`.npz`, and `.pt` by torch.load with mapping off), and a tar of `.npy` members read from its start as webdataset
does, which knows no random access and so reads in the order of the archive. The limit is the same copy from an array in
memory. "float32" is ours with the conversion that training asks for. All data is written in the same run and read once
before timing.
"""

from __future__ import annotations

import io
import math
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from goku_core.shards import ShardReader, ShardWriter, write_index

CLAIM = "Latents from the page cache, one process, random order, every byte touched: GB (of float16) per second"
# Channels, latent frames, rows, columns at 480x864 px: a picture, and clips of 17 and of 97 frames
CASES = {
    "pictures, 0.2 MB": (16, 1, 60, 108),
    "clips of 17 frames, 1 MB": (16, 5, 60, 108),
    "clips of 97 frames, 5 MB": (16, 25, 60, 108),
}
TINY = {"tiny": (4, 2, 4, 6)}
SHARD_BYTES = 128 << 20
TEXT = np.zeros((64, 16), np.float32)
Side = Callable[[], None]


def main(arguments: list[str] | None = None) -> Result:
    options = parser("latents", __doc__)
    options.add_argument("--megabytes", type=int, default=512, help="of latents in each case [512]")
    options = options.parse_args(arguments)
    options.threads = options.threads or 1  # a loader has one; torch's conversions and copies would take all
    options = settle(options)
    result = Result("latents", CLAIM, options)
    result.note(
        "the tar is read as webdataset reads it (tarfile as a stream, numpy from memory); webdataset is not run"
    )
    for case, shape in (TINY if options.small else CASES).items():
        nbytes = 2 * math.prod(shape)
        count = 24 if options.small else max(8, (options.megabytes << 20) // nbytes)
        with tempfile.TemporaryDirectory() as folder:
            result.say(f"{case}: writing {count} samples in five layouts")
            samples = [_sample(shape, number) for number in range(count)]
            with sides(Path(folder), samples) as made:
                pairs = [
                    ("goku shards", other) for other in made if other not in ("goku shards", "goku shards, float32")
                ]
                repeats = options.repeats or (2 if options.small or options.quick else 7)
                amounts = {"GB": count * nbytes / 1e9, "samples": float(count)}
                result.measure(case, made, pairs, repeats=repeats, per_call=amounts)
        if options.quick:
            break
    result.finish()
    return result


def _sample(shape: tuple[int, ...], number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal(shape, dtype=np.float32).astype(np.float16)


@contextmanager
def sides(folder: Path, samples: list[np.ndarray]) -> Iterator[dict[str, Side]]:
    """What reads all samples once, by name; the files lie below `folder`."""
    order = np.random.default_rng(0).permutation(len(samples)).tolist()
    buffer = np.empty_like(samples[0])
    tensor = torch.from_numpy(np.empty(samples[0].shape, np.float32))
    reader = _shards(folder / "latents", samples)
    for number, sample in enumerate(samples):
        np.savez(folder / f"{number}.npz", latent=sample)
        torch.save(torch.from_numpy(sample), folder / f"{number}.pt")
    with tarfile.open(folder / "samples.tar", "w") as archive:
        for number, sample in enumerate(samples):
            _add(archive, f"{number:06d}.latent.npy", sample)

    def shards() -> None:
        for row in order:
            np.copyto(buffer, reader.stored_latent(row))

    def as_float32() -> None:
        for row in order:
            tensor.copy_(torch.from_numpy(reader.latent(row)))

    def npz() -> None:
        for number in order:
            with np.load(folder / f"{number}.npz") as file:
                np.copyto(buffer, file["latent"])

    def pt() -> None:
        target = torch.from_numpy(buffer)
        for number in order:
            target.copy_(torch.load(folder / f"{number}.pt", weights_only=True))

    def tar() -> None:
        with tarfile.open(folder / "samples.tar", "r|") as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                np.copyto(buffer, np.load(io.BytesIO(file.read())))

    def copy() -> None:
        for number in order:
            np.copyto(buffer, samples[number])

    yield {
        "goku shards": shards,
        "goku shards, float32": as_float32,
        "npz files": npz,
        "pt files": pt,
        "tar stream": tar,
        "memory copy (limit)": copy,
    }


def _shards(folder: Path, samples: list[np.ndarray]) -> ShardReader:
    rows, writer = [], ShardWriter(folder)
    per_shard = max(1, SHARD_BYTES // samples[0].nbytes)
    for number, sample in enumerate(samples):
        writer.add({"sample_id": f"{number:06d}", "kind": "image"}, sample, TEXT)
        if (number + 1) % per_shard == 0:
            rows += writer.close()
            writer = ShardWriter(folder)
    write_index(folder / "index.parquet", [*rows, *writer.close()], {})
    return ShardReader(folder)


def _add(archive: tarfile.TarFile, name: str, sample: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, sample)
    member = tarfile.TarInfo(name)
    member.size = content.tell()
    content.seek(0)
    archive.addfile(member, content)


if __name__ == "__main__":
    main()
