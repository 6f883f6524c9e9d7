"""Whether the shards of a resolution are what their index says: every byte is read once, nothing is decoded."""

from __future__ import annotations

import hashlib
import json
import mmap
import zlib
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from goku_core.shards.reader import ShardReader
from goku_core.shards.writer import TENSORS, header_places


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong; `sample_id` is None where it belongs to no sample (header, name of the file)."""

    resolution: str
    shard: str
    sample_id: str | None
    message: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def verify_shards(folder: Path) -> list[Damage]:
    """Everything wrong with `data/latents/<resolution>`. Raises GokuError where there is no index to check against."""
    index = ShardReader(folder).index
    rows: dict[str, list[int]] = defaultdict(list)
    for row, shard in enumerate(index["shard"]):
        rows[str(shard)].append(row)
    return [damage for shard in sorted(rows) for damage in _verify_shard(folder, shard, rows[shard], index)]


def unnamed_shards(folder: Path) -> list[str]:
    """Shard files that the index does not name: harmless, and not part of the version."""
    named = set(ShardReader(folder).index["shard"])
    return sorted(path.name for path in folder.glob("*.safetensors") if path.name not in named)


def _verify_shard(folder: Path, shard: str, rows: list[int], index: dict[str, np.ndarray]) -> list[Damage]:
    def damage(row: int | None, message: str) -> Damage:
        return Damage(folder.name, shard, None if row is None else str(index["sample_id"][row]), message)

    path = folder / shard
    size = path.stat().st_size if path.is_file() else 0
    if size == 0:
        return [damage(row, "the shard is empty" if path.is_file() else "the shard is missing") for row in rows]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            places = {(begin, end, tuple(shape)) for begin, end, shape in header_places(content).values()}
        except (ValueError, KeyError, TypeError, AttributeError):
            places = None
        found = [damage(row, told) for row in rows if (told := _sample_fault(row, index, content, size, places))]
        if places is None:
            found.insert(0, damage(None, "the header cannot be parsed"))
        elif hashlib.sha256(content).hexdigest() != path.stem and not found:
            found.append(damage(None, "the bytes are not those the shard is named by, outside of every sample"))
    return found


def _sample_fault(
    row: int, index: dict[str, np.ndarray], content: mmap.mmap, size: int, places: set[Any] | None
) -> str | None:
    checksum = 0
    for tensor in TENSORS:
        begin, length = int(index[f"{tensor}_offset"][row]), int(index[f"{tensor}_bytes"][row])
        shape = index[f"{tensor}_shape"][row].tolist()
        if begin + length > size:
            return f"the shard is truncated: {size} bytes, the {tensor} ends at {begin + length}"
        if int(np.prod(shape)) * 2 != length:
            return f"the index gives the {tensor} {length} bytes and the shape {json.dumps(shape)} of float16"
        if places is not None and (begin, begin + length, tuple(shape)) not in places:
            return f"the header knows no tensor at the {tensor}'s place, bytes {begin} to {begin + length}"
        checksum = zlib.crc32(memoryview(content)[begin : begin + length], checksum)
    if checksum != int(index["checksum"][row]):
        return "the bytes are not those that were written (CRC-32)"
    return None
