from __future__ import annotations

import threading

import boto3
import pytest
from moto.server import ThreadedMotoServer

from goku_core.pipeline.errors import GokuError
from goku_core.storage import Bucket, fetch


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        url = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="records")
        yield url
    server.stop()


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
