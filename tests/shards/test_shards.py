"""Shards: what is written comes back, by the offsets of the index alone; damage is named."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader, ShardWriter, write_index
from goku_core.shards.verification import unnamed_shards, verify_shards


def make(folder: Path, count: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    draws = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
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


def test_what_the_writer_is_not_told_is_null_and_repeats_are_one(tmp_path: Path) -> None:
    make(tmp_path)
    index = ShardReader(tmp_path).index
    assert set(index["repeats"]) == {1} and np.isnan(index["aesthetic"]).all() and set(index["label"]) == {None}


def test_an_index_of_other_encoders_than_its_data_set_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "low")
    listed = tmp_path / "encoders.json"
    listed.write_text('{"vae": "digest", "text": "words"}')  # an index that names no text encoder says nothing about it
    assert len(ShardReader(tmp_path / "low")) == 5
    listed.write_text('{"vae": "another", "text": "words"}')
    with pytest.raises(GokuError, match=r"another vae encoder than .*: digest against another"):
        ShardReader(tmp_path / "low")


def test_an_index_of_an_earlier_release_is_named(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    make(tmp_path)
    file = tmp_path / "index.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["checksum"]), file)
    with pytest.raises(GokuError, match="no column checksum"):
        ShardReader(tmp_path)


def change(shard: Path, place: int) -> None:
    content = bytearray(shard.read_bytes())
    content[place] ^= 0x10
    shard.write_bytes(content)


def test_a_changed_byte_is_found_and_its_sample_named(tmp_path: Path) -> None:
    folder = tmp_path / "low"
    make(folder)
    assert verify_shards(folder) == [] and unnamed_shards(folder) == []
    index = ShardReader(folder).index
    (shard,) = folder.glob("*.safetensors")
    for row, tensor in ((2, "latent"), (4, "text")):
        place = int(index[f"{tensor}_offset"][row]) + 1
        change(shard, place)
        (damage,) = verify_shards(folder)
        assert (damage.resolution, damage.shard, damage.sample_id) == ("low", shard.name, f"s{row}")
        change(shard, place)
    # The header belongs to no sample: a spare byte of it, then one that makes it unreadable.
    header = int.from_bytes(shard.read_bytes()[:8], "little")
    assert shard.read_bytes()[8 + header - 1 : 8 + header] in (b" ", b"}")
    change(shard, 9)
    assert [d.sample_id for d in verify_shards(folder)] == [None]


def test_a_wrong_offset_a_cut_and_a_missing_shard_are_found(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    make(tmp_path)
    (shard,) = tmp_path.glob("*.safetensors")
    payload, file = shard.read_bytes(), tmp_path / "index.parquet"
    rows = pq.read_table(file).to_pylist()
    wrong = [{**row, "latent_offset": row["latent_offset"] + 2 * (row["sample_id"] == "s1")} for row in rows]
    write_index(file, wrong, {})
    (damage,) = verify_shards(tmp_path)
    assert damage.sample_id == "s1" and "no tensor at the latent's place" in damage.message
    write_index(file, rows, {})
    shard.write_bytes(payload[:-2])
    damages = verify_shards(tmp_path)
    assert [d.sample_id for d in damages] == ["s4"] and "truncated" in damages[0].message
    shard.rename(tmp_path / "other.safetensors")
    assert {d.sample_id for d in verify_shards(tmp_path)} == {f"s{n}" for n in range(5)}
    assert unnamed_shards(tmp_path) == ["other.safetensors"]
