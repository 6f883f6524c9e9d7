"""A data set of several shards, made by the project's own writer, and a packer over it: for tests that damage shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from latent_workspace import request

from goku_core.models.text import WordEncoder
from goku_core.shards import ShardReader, ShardWriter, write_index
from goku_core.train import Request
from goku_core.train.data import Packer, open_latents
from goku_core.train.data_request import Data

SHARDS, PER_SHARD = 6, 8


def write_latents(folder: Path) -> Path:
    """`folder`/low: 48 samples, every fourth a clip of 8 tokens, the others pictures of 4 or 6; one of 20 tokens alone."""
    draws, encoder, rows = np.random.default_rng(0), WordEncoder(16, 16), []
    for shard in range(SHARDS):
        writer = ShardWriter(folder / "low")
        for number in range(PER_SHARD):
            clip = number % 4 == 0
            columns = 4 + 2 * (number % 2)
            columns = 20 if (shard, number) == (0, 1) else columns
            latent = draws.standard_normal((4, 2 if clip else 1, 4, 4 if clip else columns))
            row = {"sample_id": f"{number}{shard}", "first_seconds": 0.0, "text": "a red circle"}
            row |= {"kind": "video" if clip else "image", "tokens": 8 if clip else columns}
            writer.add(row, latent, encoder.encode(f"a red circle {number}").numpy())
        rows += writer.close()
    write_index(folder / "low/index.parquet", rows, {})
    return folder / "low"


def asked(phase: str = "second", data: dict[str, object] | None = None, **changes: object) -> Request:
    """The request of one phase with these keys of `data`."""
    return request(phase, **{"tokens": 320, **changes}).model_copy(update={"data": Data(**(data or {}))})


def packer(
    folder: Path, record: Path | None = None, reader: ShardReader | None = None, rounds: str = "free", **data: object
) -> Packer:
    changes = {key: data.pop(key) for key in ("pack_tokens", "phase", "tokens") if key in data}
    wanted = asked(changes.pop("phase", "second"), data, **changes)
    (phase,) = wanted.phases.values()
    reader = reader or open_latents(wanted.data, folder)
    return Packer(reader, phase, wanted, WordEncoder(16, 16), 5, record, rounds)
