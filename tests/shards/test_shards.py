"""Shards: what is written comes back, by the offsets of the index alone; damage is named."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader, ShardWriter, write_index


def make(folder: Path, count: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    draws = np.random.default_rng(0)
    writer, samples = ShardWriter(folder), []
    for number in range(count):
        latent = draws.standard_normal((4, 1 + number % 3, 2, 6)).astype(np.float32)
        text = draws.standard_normal((1 + number, 8)).astype(np.float32)
        samples.append((latent, text))
        row = {"sample_id": f"s{number}", "clip_id": f"c{number}", "kind": "image", "first_seconds": 0.0}
        writer.add({**row, "tokens": 3, "text": "a red circle"}, latent, text)
    write_index(folder / "index.parquet", writer.close(), {"vae": "digest"})
    return samples


def test_samples_come_back(tmp_path: Path) -> None:
    samples = make(tmp_path)
    reader = ShardReader(tmp_path)
    assert len(reader) == 5 and reader.metadata == {"vae": "digest"}
    for row in (3, 0, 4):
        assert np.allclose(reader.latent(row), samples[row][0], atol=2e-3)
        assert np.allclose(reader.text(row), samples[row][1], atol=2e-3)
        assert reader.latent(row).shape == samples[row][0].shape


def test_offsets_are_enough_for_a_ranged_read(tmp_path: Path) -> None:
    """No header is needed: bytes at the index's place are the tensor, as an object store would serve them."""
    samples = make(tmp_path)
    index = ShardReader(tmp_path).index
    with (tmp_path / index["shard"][2]).open("rb") as file:
        file.seek(index["latent_offset"][2])
        raw = file.read(index["latent_bytes"][2])
    values = np.frombuffer(raw, "<f2").reshape(index["latent_shape"][2])
    assert np.array_equal(values, samples[2][0].astype(np.float16))


def test_names_are_digests_and_writing_twice_is_one_file(tmp_path: Path) -> None:
    make(tmp_path)
    make(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    assert shard.stem == hashlib.sha256(shard.read_bytes()).hexdigest()


def test_damage_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    payload = shard.read_bytes()
    shard.write_bytes(payload[: len(payload) // 2])
    with pytest.raises(GokuError, match="truncated"):
        ShardReader(tmp_path).text(4)
    shard.unlink()
    with pytest.raises(GokuError, match="missing"):
        ShardReader(tmp_path).text(0)
    with pytest.raises(GokuError, match="goku run precompute"):
        ShardReader(tmp_path / "elsewhere")
