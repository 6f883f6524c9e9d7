from __future__ import annotations

import hashlib
import threading

import boto3
import pytest
from object_store import object_store

from goku_core.pipeline.errors import GokuError
from goku_core.storage import PART, Bucket, ObjectError, fetch, publish, split_url


@pytest.fixture(scope="module")
def endpoint():
    with object_store("records", endpoint_in_environment=False) as url:
        yield url


def test_only_the_first_writer_wins(endpoint, tmp_path):
    bucket = Bucket("records", "a/", endpoint)
    assert bucket.get("key") is None
    assert not fetch(bucket, "key", tmp_path / "file")
    assert bucket.put_if_absent("key", b"first")
    assert not bucket.put_if_absent("key", b"second")
    assert bucket.get("key") == b"first"
    assert fetch(bucket, "key", tmp_path / "deep" / "file")
    assert (tmp_path / "deep" / "file").read_bytes() == b"first"


def test_one_winner_of_many_at_once(endpoint):
    wins = []
    barrier = threading.Barrier(8)

    def write(i):
        bucket = Bucket("records", "b/", endpoint)
        barrier.wait()
        if bucket.put_if_absent("key", str(i).encode()):
            wins.append(i)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert Bucket("records", "b/", endpoint).get("key") == str(wins[0]).encode()


def test_changed_bytes_are_noticed(endpoint):
    boto3.client("s3", endpoint_url=endpoint).put_object(
        Bucket="records", Key="c", Body=b"other bytes", Metadata={"sha256": "0" * 64}
    )
    with pytest.raises(GokuError, match="not the ones that were written"):
        Bucket("records", endpoint=endpoint).get("c")


def test_a_wrong_bucket_is_named(endpoint):
    with pytest.raises(GokuError, match="s3://nowhere/key"):
        Bucket("nowhere", endpoint=endpoint).put_if_absent("key", b"")


def test_listing_is_by_key_and_below_the_prefix(endpoint):
    bucket = Bucket("records", "list/", endpoint)
    for i in range(3):
        bucket.put_if_absent(f"in/{i}", b"x" * i)
    bucket.put_if_absent("outside", b"")
    bucket.put_if_absent("in-between/3", b"")
    found = list(bucket.list("in/"))
    assert [(one.key, one.bytes) for one in found] == [("in/0", 0), ("in/1", 1), ("in/2", 2)]
    there = bucket.head("in/1")
    assert (there.bytes, there.etag, there.sha256) == (1, found[1].etag, hashlib.sha256(b"x").hexdigest())
    assert bucket.head("in/9") is None
    assert len({one.etag for one in found}) == 3


def test_a_listing_longer_than_a_page(endpoint):
    bucket = Bucket("records", "pages/", endpoint)
    for i in range(5):
        bucket.put_if_absent(str(i), b"")
    assert [one.key for one in bucket.list(page=2)] == ["0", "1", "2", "3", "4"]


def test_a_large_file_goes_in_parts_and_is_read_by_ranges(endpoint, tmp_path):
    content = hashlib.sha256(b"seed").digest() * (PART // 32 + 1000)
    (tmp_path / "shard").write_bytes(content)
    bucket = Bucket("records", "parts/", endpoint)
    assert bucket.put(tmp_path / "shard", "shard") == hashlib.sha256(content).hexdigest()
    there = bucket.head("shard")
    assert there.bytes == len(content) and there.etag.endswith('-2"'), "two parts"
    assert bucket.read("shard", PART - 5, 10, there.etag) == content[PART - 5 : PART + 5]
    assert bucket.read("shard", 7, 0) == b""
    stream = bucket.stream("shard", len(content) - 100, there.etag)
    assert (stream.start, stream.total) == (len(content) - 100, len(content))
    assert b"".join(stream.chunks) == content[-100:]
    assert fetch(bucket, "shard", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def test_a_range_is_of_the_wanted_version_and_within_the_object(endpoint):
    bucket = Bucket("records", "versions/", endpoint)
    bucket.put_if_absent("key", b"0123456789")
    for ask, status in (
        (lambda: bucket.read("key", 0, 4, '"another"'), 412),
        (lambda: bucket.stream("key", 2, '"another"'), 412),
        (lambda: bucket.stream("key", 10), 416),
        (lambda: bucket.read("key", 8, 4), 416),
        (lambda: bucket.read("absent", 0, 4), 404),
    ):
        with pytest.raises(ObjectError) as caught:
            ask()
        assert caught.value.status == status and not caught.value.passing
    assert bucket.stream("absent") is None


def test_an_index_is_published_after_what_it_names(endpoint, tmp_path, monkeypatch):
    bucket = Bucket("records", "latents/", endpoint)
    for name in ("256/a.safetensors", "256/b.safetensors", "index.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    put, order = Bucket.put, []

    def cut_off(self, path, key):
        if len(order) == 2:
            raise ObjectError("gone", status=None, code="", passing=True)
        order.append(key)
        return put(self, path, key)

    monkeypatch.setattr(Bucket, "put", cut_off)
    with pytest.raises(ObjectError):
        publish(bucket, tmp_path, last=["index.parquet"])
    assert sorted(order) == ["256/a.safetensors", "256/b.safetensors"] and bucket.head("index.parquet") is None
    monkeypatch.setattr(Bucket, "put", put)
    assert publish(bucket, tmp_path, last=["index.parquet"]) == ["index.parquet"], "the rest is there"
    (tmp_path / "256/a.safetensors").write_bytes(b"another")
    assert publish(bucket, tmp_path, last=["index.parquet"]) == ["256/a.safetensors"]
    assert bucket.get("256/a.safetensors") == b"another"
    with pytest.raises(GokuError, match=r"no absent\.parquet"):
        publish(bucket, tmp_path, last=["absent.parquet"])


def test_a_file_that_cannot_be_written_names_the_object(endpoint, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(GokuError, match="s3://nowhere/key"):
        Bucket("nowhere", endpoint=endpoint).put(tmp_path / "file", "key")


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "bucket/key", "s3://b/k", "s3://a b/k", "s3://../k"])
def test_what_is_no_address_of_an_object(url):
    with pytest.raises(GokuError, match="is not s3://bucket/key"):
        split_url(url)
