"""Shards cut short, changed and missing, in a folder and in a bucket: recorded, replaced, and too many of them stop the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import boto3
import pytest
import torch
from latent_workspace import make_workspace, train
from many_shards import packer, write_latents
from object_store import object_store

from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader
from goku_core.shards.verification import verify_shards
from goku_core.storage import ObjectError
from goku_core.train.data import Loader, Packer
from goku_core.train.data.source import StoreAway

STEPS = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_latents(tmp_path / "data")


def cut(shard: Path, share: float = 0.5) -> None:
    content = shard.read_bytes()
    shard.write_bytes(content[: int(len(content) * share)])


def flip(folder: Path, row: int, tensor: str = "latent") -> str:
    """One bit of a sample; its id."""
    index = ShardReader(folder).index
    shard = folder / index["shard"][row]
    content = bytearray(shard.read_bytes())
    content[int(index[f"{tensor}_offset"][row]) + 3] ^= 0x04
    shard.write_bytes(content)
    return str(index["sample_id"][row])


def shown(own: Packer, steps: int = STEPS, groups: int = 1) -> list[list[str]]:
    """Ids of the samples of each step, over all groups."""
    return [
        sorted(name for group in range(groups) for pack in own.packs(step, group, groups) for name in pack.ids)
        for step in range(steps)
    ]


def lines(record: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def test_samples_of_a_cut_shard_are_recorded_and_replaced(folder: Path, tmp_path: Path) -> None:
    whole = packer(folder)
    index = whole.reader.index
    before = shown(whole)
    shards = sorted(set(index["shard"]))
    cut(folder / shards[2])
    damaged = {damage.sample_id for damage in verify_shards(folder)} - {None}
    assert 2 <= len(damaged) < 8
    record = tmp_path / "unreadable.jsonl"
    own = packer(folder, record, unreadable_max=0.2)
    after = shown(own)
    told = lines(record)
    assert {line["sample_id"] for line in told} == damaged and own.unreadable.count == len(damaged)
    assert all(line["shard"] == shards[2] and "truncated" in line["error"] for line in told)
    row = {str(name): place for place, name in enumerate(index["sample_id"])}
    stands_in = {line["sample_id"]: line["substitute"] for line in told}
    for name, other in stands_in.items():
        one, two = row[name], row[other]
        assert index["kind"][one] == index["kind"][two] and index["tokens"][two] <= index["tokens"][one]
        assert index["shard"][two] != shards[2] and other not in damaged
    assert after == [sorted(stands_in.get(name, name) for name in step) for step in before]
    # The same at another arrangement, and after a restart, which adds no line.
    assert shown(packer(folder, unreadable_max=0.2, pack_tokens=24), groups=3) == after
    again = packer(folder, record, unreadable_max=0.2)
    assert shown(again) == after and lines(record) == told


def test_a_changed_bit_is_noticed_where_checksums_are_verified(folder: Path, tmp_path: Path) -> None:
    name = flip(folder, 20, "text")
    record = tmp_path / "unreadable.jsonl"
    own = packer(folder, record, unreadable_max=0.03, cache_megabytes=0)
    loader = Loader(own, ahead=2, threads=3)
    try:
        packs = [loader.step(step) for step in range(20)]
    finally:
        loader.close()
    (line,) = lines(record)
    assert line["sample_id"] == name and "damaged" in line["error"]
    names = {other for step in packs for pack in step for other in pack.ids}
    assert name not in names and line["substitute"] in names
    assert all(torch.isfinite(pack.noised).all() for step in packs for pack in step)
    unchecked = packer(folder, verify=False)
    assert name in {other for step in shown(unchecked, 20) for other in step} and not unchecked.unreadable.count


def test_too_many_unreadable_samples_stop_the_run(folder: Path, tmp_path: Path) -> None:
    for row in (3, 12, 30):
        flip(folder, row)
    record = tmp_path / "unreadable.jsonl"
    own = packer(folder, record, unreadable_max=0.05)  # 2.4 of 48
    with pytest.raises(
        GokuError, match=r"3 of 48 samples of data/latents at resolution .low.* 0\.05.*goku latents verify"
    ):
        shown(own, 40)
    # A process that has seen one of them alone counts those that others wrote down.
    assert len(lines(record)) == 3
    later = packer(folder, record, unreadable_max=0.05)
    with pytest.raises(GokuError, match="3 of 48"):
        shown(later, 40)


def test_a_sample_without_a_substitute_stops_the_run(folder: Path) -> None:
    """A missing folder of shards: nothing that could stand in is there either."""
    for shard in folder.glob("*.safetensors"):
        shard.unlink()
    with pytest.raises(GokuError, match="nothing can stand in for sample"):
        packer(folder, unreadable_max=1.0).packs(0)


def test_training_stops_at_damage_and_ends_as_if_there_had_been_none(tmp_path: Path) -> None:
    """With the shard repaired the run goes on from its checkpoint; its outputs are the unbroken run's."""
    workspace = make_workspace(tmp_path / "line")
    assert train(workspace, "first", tmp_path / "unbroken").unreadable == 0
    folder = workspace / "data/latents/low"
    (shard,) = folder.glob("*.safetensors")
    sound = tmp_path / "sound"
    shutil.copy(shard, sound)
    pictures = ShardReader(folder).index["kind"] == "image"
    flip(folder, int(pictures.nonzero()[0][-1]))
    with pytest.raises(GokuError, match="1 of 16 samples"):
        train(workspace, "first", tmp_path / "broken")
    assert lines(tmp_path / "broken/scratch/unreadable.jsonl")
    shutil.copy(sound, shard)
    assert train(workspace, "first", tmp_path / "broken").unreadable == 1
    for file in ("model.safetensors", "metrics.jsonl"):
        one, two = (tmp_path / run / "out/models/first" / file for run in ("unbroken", "broken"))
        assert one.read_bytes() == two.read_bytes()


@pytest.fixture(scope="module")
def store():
    with object_store("unreadable-samples") as url:
        yield boto3.client("s3", endpoint_url=url)


def upload(store, folder: Path, prefix: str) -> str:
    for path in folder.glob("*.safetensors"):
        store.put_object(Bucket="unreadable-samples", Key=f"{prefix}/low/{path.name}", Body=path.read_bytes())
    return f"s3://unreadable-samples/{prefix}"


def test_a_bucket_gives_the_packs_of_the_folder(folder: Path, store, tmp_path: Path) -> None:
    source = upload(store, folder, "whole")
    here = packer(folder).packs(1)
    empty = tmp_path / "index/low"  # a machine that holds the index alone
    empty.mkdir(parents=True)
    shutil.copy(folder / "index.parquet", empty)
    loader = Loader(packer(empty, source=source), threads=8, ahead=1)
    (there,) = loader.step(1)
    loader.close()
    assert (
        there.ids == here[0].ids and torch.equal(there.noised, here[0].noised) and torch.equal(there.text, here[0].text)
    )


def test_damage_in_a_bucket_is_recorded_and_replaced(folder: Path, store, tmp_path: Path) -> None:
    before = shown(packer(folder))
    shards = sorted(set(ShardReader(folder).index["shard"]))
    name = flip(folder, 9)
    cut(folder / shards[4], 0.8)
    damaged = {damage.sample_id for damage in verify_shards(folder)} - {None}
    source = upload(store, folder, "damaged")
    store.delete_object(Bucket="unreadable-samples", Key=f"damaged/low/{shards[1]}")
    index = ShardReader(folder).index
    damaged |= {str(one) for one in index["sample_id"][index["shard"] == shards[1]]}
    assert name in damaged and len(damaged) > 9
    record = tmp_path / "unreadable.jsonl"
    own = packer(folder, record, source=source, unreadable_max=0.5)
    after = shown(own)
    told = {line["sample_id"]: line["substitute"] for line in lines(record)}
    assert set(told) <= damaged and set(told) >= damaged & {one for step in before for one in step}
    for was, now in zip(before, after, strict=True):
        assert len(now) == len(was) and not set(now) & damaged
        assert set(was) - damaged <= set(now)


def test_bytes_changed_on_their_way_arrive_whole_the_second_time(folder: Path, store) -> None:
    source = upload(store, folder, "whole")
    own = packer(folder, source=source, unreadable_max=0.0, cache_megabytes=0)
    ranged, asked = own.reader._shards, []
    plain = ranged.bucket.read

    def once_changed(key: str, start: int, length: int) -> bytes:
        content = plain(key, start, length)
        asked.append(key)
        return bytes([content[0] ^ 1]) + content[1:] if len(asked) == 1 else content

    ranged.bucket.read = once_changed
    assert shown(own, 1) == shown(packer(folder), 1) and not own.unreadable.count


def test_a_store_that_is_away_stops_the_run_and_blames_no_sample(folder: Path, store, monkeypatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    own = packer(folder, source="s3://unreadable-samples/whole", patience_seconds=1, unreadable_max=0.0)
    with pytest.raises(StoreAway, match=r"did not answer for 1 s \(train\.data\.patience_seconds\)"):
        own.packs(0)
    assert not own.unreadable.count


def test_a_bucket_that_is_not_there_stops_the_run_and_blames_no_sample(folder: Path, store) -> None:
    own = packer(folder, source="s3://no-such-bucket/whole")
    with pytest.raises(ObjectError, match="no-such-bucket"):
        own.packs(0)
    assert not own.unreadable.count
