"""Files of tensors: where each piece lies in which file, and the writing of one. The format is safetensors, the writer is ours.

The whole file is known before it is written, so it is staged in one buffer, and written and hashed in one pass.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goku_core.pipeline.errors import GokuError
from goku_core.train.checkpoint.folder import Written

# Where a file is closed and the next one begun: several ranks then verify one rank's files, and an upload repeats little.
FILE_BYTES = 2 << 30
CHUNK = 4 << 20  # bytes written and hashed at once, without the interpreter's lock

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Block:
    """A box of one tensor.

    shape, offsets  of the box, and where it begins in the whole tensor
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offsets: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class File:
    """A file to be written. `begins`: where each block's bytes begin, counted from the end of the header."""

    name: str
    header: bytes
    blocks: tuple[Block, ...]
    begins: tuple[int, ...]
    data_bytes: int

    @property
    def bytes(self) -> int:
        return len(self.header) + self.data_bytes


def make_file(name: str, blocks: Iterable[Block]) -> File:
    """Lays blocks out in one file: widest values first, so that every block begins at a multiple of its value's size.

    Raises GokuError for a type of values that safetensors does not have.
    """
    ordered = tuple(sorted(blocks, key=lambda block: (-block.dtype.itemsize, block.name)))
    if strange := [block for block in ordered if block.dtype not in NAMES]:
        raise GokuError(f"{strange[0].name} holds {strange[0].dtype}, which a checkpoint cannot hold.")
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begins, end = [], 0
    for block in ordered:
        begins.append(end)
        end += block.bytes
        entries[block.name] = {"dtype": NAMES[block.dtype], "shape": block.shape, "data_offsets": (begins[-1], end)}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return File(name, len(text).to_bytes(8, "little") + text, ordered, tuple(begins), end)


def split(blocks: Iterable[Block], limit: int = FILE_BYTES) -> list[list[Block]]:
    """The blocks by name, in runs of at most `limit` bytes, or of one block where that is larger."""
    runs: list[list[Block]] = []
    filled = 0
    for block in sorted(blocks, key=lambda one: one.name):
        if not runs or filled + block.bytes > limit:
            runs.append([])
            filled = 0
        runs[-1].append(block)
        filled += block.bytes
    return runs


def arrange(blocks: Iterable[Block], rank: int, limit: int = FILE_BYTES) -> list[File]:
    """The files of one rank: the network, its average and every optimizer by themselves, each in runs of `limit` bytes."""
    sections: dict[str, list[Block]] = {}
    for block in blocks:
        sections.setdefault(block.name.split(".", 1)[0], []).append(block)
    return [
        make_file(f"{section}-{rank:05d}-{part:02d}.safetensors", run)
        for section in sorted(sections)
        for part, run in enumerate(split(sections[section], limit))
    ]


def write(path: Path, parts: Iterable[bytes | Tensor]) -> Written:
    """Writes bytes and uint8 tensors one behind the other. When it returns, the file is on the disk."""
    digest, total = hashlib.sha256(), 0
    with path.open("wb") as file:
        for part in parts:
            content = memoryview(part.numpy() if isinstance(part, Tensor) else part)
            for begin in range(0, len(content), CHUNK):
                chunk = content[begin : begin + CHUNK]
                file.write(chunk)
                digest.update(chunk)
            total += len(content)
        file.flush()
        os.fsync(file.fileno())
    return Written(total, digest.hexdigest())


def raw(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, uint8 (bytes,)."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
