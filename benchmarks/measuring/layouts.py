"""One set of latents with texts in three layouts, and what reads each: shards of this project, tars for webdataset, one flat file.

Every reader gives samples as training wants them: latent and text as float32 tensors. `order` is a shuffled epoch.
"""

from __future__ import annotations

import importlib.util
import io
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from goku_core.packing import Mix, rows_of_step
from goku_core.shards import Files, ShardReader, ShardWriter, write_index

MISSING = "webdataset is not installed, its side is left out: pip install -c constraints.txt -e '.[bench]'"
SHARD_BYTES = 64 << 20
SHUFFLED = 1000  # samples that webdataset holds to shuffle them
STEP = 64  # samples planned at once
Sample = tuple[Tensor, Tensor]


def installed() -> bool:
    return importlib.util.find_spec("webdataset") is not None


def write(folder: Path, shapes: list[tuple[int, ...]], text: tuple[int, int]) -> None:
    """The same samples as shards, tars and a flat file below `folder`; values are noise, which nothing compresses."""
    rng, rows, number, flat = np.random.default_rng(0), [], 0, _Flat(folder)
    (folder / "tars").mkdir(parents=True)
    per_shard = max(1, SHARD_BYTES // (2 * int(np.mean([np.prod(shape) for shape in shapes]))))
    for begin in range(0, len(shapes), per_shard):
        writer = ShardWriter(folder / "low")
        with tarfile.open(folder / f"tars/{begin:08d}.tar", "w") as archive:
            for shape in shapes[begin : begin + per_shard]:
                latent = rng.standard_normal(shape, np.float32).astype(np.float16)
                words = rng.standard_normal(text, np.float32).astype(np.float16)
                kind = "image" if shape[1] == 1 else "video"
                tokens = shape[1] * (shape[2] // 2) * (shape[3] // 2)
                writer.add({"sample_id": f"{number:08d}", "kind": kind, "tokens": tokens, "text": ""}, latent, words)
                _add(archive, f"{number:08d}.latent.npy", latent)
                _add(archive, f"{number:08d}.text.npy", words)
                flat.add(latent, words)
                number += 1
        rows += writer.close()
    write_index(folder / "low/index.parquet", rows, {})
    flat.close()


def shards(folder: Path, begin: int = 0, threads: int = 1, checked: bool = True) -> Iterator[Sample]:
    """Samples of an epoch from place `begin` on, by the project's reader in the order of its plan."""
    reader = ShardReader(folder / "low", Files(folder / "low", checked))
    mix, lengths = Mix((np.arange(len(reader)),), (1.0,)), np.ones(len(reader), np.int64)

    def read(row: int) -> Sample:
        latent, text = reader.sample(row)
        return torch.from_numpy(latent), torch.from_numpy(text)

    pool = ThreadPoolExecutor(threads) if threads > 1 else None
    try:
        for step in range(begin // STEP, -(-len(reader) // STEP)):
            rows = rows_of_step(lengths, mix, STEP, 0, step).tolist()
            rows = rows[max(0, begin - step * STEP) : len(reader) - step * STEP]
            yield from map(read, rows) if pool is None else pool.map(read, rows)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def webdataset(folder: Path, begin: int = 0, workers: int = 0) -> Iterator[Sample]:
    """The same by webdataset: tars in shuffled order, samples shuffled in a buffer. `begin` are read past, undecoded."""
    import webdataset as wds

    tars = [str(path) for path in sorted((folder / "tars").glob("*.tar"))]
    data = wds.WebDataset(tars, shardshuffle=len(tars), seed=0, empty_check=False)
    if begin:
        data = data.slice(begin // max(1, workers), None)  # each worker reads past its part
    data = data.shuffle(SHUFFLED).decode().to_tuple("latent.npy", "text.npy").map(_as_training)
    if workers:
        yield from torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers)
    else:
        yield from data


def _as_training(sample: tuple[np.ndarray, np.ndarray]) -> Sample:
    latent, text = sample
    return torch.from_numpy(latent).float(), torch.from_numpy(text).float()


def memory_map(folder: Path, begin: int = 0) -> Iterator[Sample]:
    """The same from one memory-mapped file and a table of places: what a reader costs that checks nothing."""
    content = np.memmap(folder / "flat.bin", np.float16, "r")
    table = np.load(folder / "flat.npz")
    places, shapes, words = table["places"].tolist(), table["shapes"].tolist(), table["words"].tolist()
    for row in np.random.default_rng(0).permutation(len(places))[begin:].tolist():
        latent = _mapped(content, places[row], shapes[row])
        yield latent, _mapped(content, places[row] + latent.numel(), words[row])


def _mapped(content: np.ndarray, begin: int, shape: list[int]) -> Tensor:
    values = np.array(content[begin : begin + int(np.prod(shape))])  # a copy, as every side makes one
    return torch.from_numpy(values).float().reshape(shape)


class _Flat:
    """Samples behind one another in one file, and where each begins, in values of float16."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.file = folder, (folder / "flat.bin").open("wb")
        self.places: list[int] = []
        self.shapes: list[tuple[int, ...]] = []
        self.words: list[tuple[int, ...]] = []

    def add(self, latent: np.ndarray, text: np.ndarray) -> None:
        self.places.append(self.file.tell() // 2)
        self.shapes.append(latent.shape)
        self.words.append(text.shape)
        self.file.write(latent.tobytes() + text.tobytes())

    def close(self) -> None:
        self.file.close()
        np.savez(self.folder / "flat.npz", places=self.places, shapes=self.shapes, words=self.words)


def _add(archive: tarfile.TarFile, name: str, values: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, values)
    member = tarfile.TarInfo(name)
    member.size = content.tell()
    content.seek(0)
    archive.addfile(member, content)
