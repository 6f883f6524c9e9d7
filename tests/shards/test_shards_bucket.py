"""Latents in a bucket: one ranged read a sample, from a real S3 server, checked on arrival."""

from __future__ import annotations

from pathlib import Path

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader, ShardWriter, write_index
from goku_core.storage import Bucket


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
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="latents")
        yield url
    server.stop()


@pytest.fixture
def local(tmp_path: Path, endpoint: str) -> Path:
    """A resolution of two shards, the same below v1/low/ in the bucket."""
    folder, draws, rows = tmp_path / "low", np.random.default_rng(0), []
    for shard in range(2):
        writer = ShardWriter(folder)
        for number in range(4):
            latent = draws.standard_normal((4, 1 + number, 4, 6))
            writer.add({"sample_id": f"{shard}{number}", "kind": "image"}, latent, draws.standard_normal((3, 8)))
        rows += writer.close()
    write_index(folder / "index.parquet", rows, {"vae": "v", "text": "t"})
    client = boto3.client("s3", endpoint_url=endpoint)
    for path in folder.iterdir():
        client.put_object(Bucket="latents", Key=f"v1/low/{path.name}", Body=path.read_bytes())
    client.put_object(Bucket="latents", Key="v1/encoders.json", Body=b'{"vae": "v", "text": "t"}')
    return folder


def test_samples_are_those_of_the_folder_and_cost_their_own_bytes(local: Path, endpoint: str) -> None:
    bucket, asked = Bucket("latents", endpoint=endpoint), []
    plain = bucket.read
    bucket.read = lambda key, start, length: asked.append(length) or plain(key, start, length)
    here, there = ShardReader(local), ShardReader.from_bucket(bucket, "v1/low/")
    assert there.metadata == here.metadata and len(there) == 8
    for row in (5, 0, 7, 2):
        latent, text = there.sample(row)
        assert np.array_equal(latent, here.latent(row)) and np.array_equal(text, here.text(row))
    assert asked == [int(here.index["latent_bytes"][row] + here.index["text_bytes"][row]) for row in (5, 0, 7, 2)]
    assert np.array_equal(there.latent(3), here.latent(3)) and np.array_equal(there.text(3), here.text(3))


def test_damage_on_the_way_and_absence_are_named(local: Path, endpoint: str) -> None:
    client, bucket = boto3.client("s3", endpoint_url=endpoint), Bucket("latents", endpoint=endpoint)
    reader = ShardReader.from_bucket(bucket, "v1/low/")
    shard = str(reader.index["shard"][0])
    content = bytearray((local / shard).read_bytes())
    content[int(reader.index["latent_offset"][0])] ^= 1
    client.put_object(Bucket="latents", Key=f"v1/low/{shard}", Body=bytes(content))
    with pytest.raises(GokuError, match=f"sample 00 of shard {shard} arrived damaged"):
        reader.latent(0)
    client.put_object(Bucket="latents", Key=f"v1/low/{shard}", Body=bytes(content[:-4]))
    with pytest.raises(GokuError, match="were asked for"):
        reader.sample(3)
    client.delete_object(Bucket="latents", Key=f"v1/low/{shard}")
    with pytest.raises(GokuError, match=f"s3://latents/v1/low/{shard}"):
        reader.sample(3)
    with pytest.raises(GokuError, match="no v1/none/index"):
        ShardReader.from_bucket(bucket, "v1/none/")


def test_other_encoders_are_refused_in_a_bucket_too(local: Path, endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=endpoint)
    client.put_object(Bucket="latents", Key="v1/encoders.json", Body=b'{"vae": "other", "text": "t"}')
    with pytest.raises(GokuError, match="another vae encoder"):
        ShardReader.from_bucket(Bucket("latents", endpoint=endpoint), "v1/low/")
