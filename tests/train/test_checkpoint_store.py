"""The second tier, against a real S3 server that also goes away and comes back."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from pathlib import Path

import boto3
import pytest
from checkpoint_states import digests, everything, make_state
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from goku_core.cli import app
from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.errors import GokuError
from goku_core.storage import Bucket
from goku_core.train.checkpoint import Checkpoint, Checkpointing, Checkpoints
from goku_core.train.checkpoint.checkpoints import open_checkpoints
from goku_core.train.checkpoint.remote import Remote

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        boto3.client("s3").create_bucket(Bucket="checkpoints")
        yield f"http://{host}:{port}"
    server.stop()


def keys(prefix: str) -> list[str]:
    return [entry.key for entry in Bucket("checkpoints", prefix).list()]


def test_a_node_without_its_disk_goes_on_from_the_store(tmp_path: Path, endpoint: str) -> None:
    state, said = make_state(1), []
    settings = Checkpointing(keep=2, remote="s3://checkpoints/runs")
    checkpoints = open_checkpoints(settings, tmp_path / "here", {"fingerprint": "f1", "phase": "first"})
    for step in range(1, 5):
        checkpoints.save(step, state, {"step": step})
        checkpoints.wait(remote=True)
    complete = [key.split("-")[1] for key in keys("runs/f1/") if key.endswith("complete.json")]
    assert complete == ["00000003", "00000004"]  # retention is the same there
    there = open_checkpoints(settings, tmp_path / "there", {"fingerprint": "f1"}, said.append)
    found = there.newest()
    assert (
        found == Checkpoint(tmp_path / "there/step-00000004", 4)
        and "fetching s3://checkpoints/runs/f1/step-00000004" in said[0]
    )
    other = make_state(2, steps=0)
    assert there.load(found, other) == {"step": 4}
    assert digests(everything(other)) == digests(everything(state))
    assert there.newest() == found and len(said) == 1  # it is here now


def test_a_damaged_local_one_is_brought_back_and_half_a_remote_one_is_none(tmp_path: Path, endpoint: str) -> None:
    checkpoints = Checkpoints(tmp_path, remote=Bucket("checkpoints", "mended/"))
    for step in (1, 2):
        checkpoints.save(step, make_state(step), {"step": step})
        checkpoints.wait(remote=True)
    (tmp_path / "step-00000002/model-00000-00.safetensors").write_bytes(b"rubbish")
    assert checkpoints.newest() == Checkpoint(tmp_path / "step-00000002", 2)
    # Without its marker, or with an object of other bytes, the store's does not count: the local one before does.
    client, (folder,) = boto3.client("s3"), {k.split("/")[0] for k in keys("mended/") if k.startswith("step-00000002")}
    client.put_object(Bucket="checkpoints", Key=f"mended/{folder}/model-00000-00.safetensors", Body=b"rubbish")
    (tmp_path / "step-00000002/model-00000-00.safetensors").write_bytes(b"rubbish")
    said: list[str] = []
    assert Checkpoints(tmp_path, remote=Bucket("checkpoints", "mended/"), say=said.append).newest().step == 1
    assert sum("Trying the checkpoint before it" in line or "was not written" in line for line in said) == 2
    client.delete_object(Bucket="checkpoints", Key=f"mended/{folder}/complete.json")
    shutil.rmtree(tmp_path / "step-00000002", ignore_errors=True)
    assert checkpoints.newest().step == 1


def test_training_goes_on_while_the_store_is_away(tmp_path: Path) -> None:
    """Saves do not wait for it; what it missed is not sent late, the newest is."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "t"),
            ("AWS_SECRET_ACCESS_KEY", "t"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="away")
        bucket, state, said = Bucket("away", "run/", endpoint=url), make_state(1), []
        checkpoints = Checkpoints(tmp_path, keep=3, remote=bucket, say=said.append)
        checkpoints._remote.delays = (0.05,)
        checkpoints.save(1, state, {})
        checkpoints.wait(remote=True)
        server.stop()
        started = time.monotonic()
        checkpoints.save(2, state, {})
        checkpoints.wait()
        assert time.monotonic() - started < 1.5  # durable here, whatever the store does
        checkpoints.wait(remote=True)
        assert "step-00000002 stays on the local disk alone" in said[-1] and "Training goes on" in said[-1]
        assert checkpoints.newest().step == 2
        assert "left out" in said[-1]
        server = ThreadedMotoServer(ip_address=host, port=port)
        server.start()
        checkpoints.save(3, state, {})
        checkpoints.wait(remote=True)
        assert "step-00000003 has arrived: the store is back" in said[-1]
        complete = [e.key for e in bucket.list() if e.key.endswith("complete.json")]
        assert [key.split("-")[1] for key in complete] == ["00000001", "00000003"]
        server.stop()


def test_an_upload_that_was_cut_off_is_finished_and_an_overtaken_one_left_out(tmp_path: Path, endpoint: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=4)
    for step in (1, 2, 3):
        checkpoints.save(step, make_state(1), {})
    checkpoints.wait()
    bucket, sent, gate, breaks = Bucket("checkpoints", "cut/"), [], threading.Event(), ["index.json"]
    plain = bucket.put

    def put(path: Path, key: str) -> str:
        gate.wait(20)
        if path.name in breaks:
            breaks.clear()
            raise GokuError("the connection broke")
        sent.append(key)
        return plain(path, key)

    def complete() -> list[str]:
        return [entry.key.split("-")[1] for entry in bucket.list() if entry.key.endswith("complete.json")]

    bucket.put = put
    remote = Remote(bucket, keep=4, keep_every=None)
    gate.set()
    remote.send(tmp_path / "step-00000001")
    remote.wait()
    assert complete() == [] and len(sent) == 5
    gate.clear()
    remote.send(tmp_path / "step-00000001")
    while not remote.sending() or remote._waiting is not None:  # until it is on its way
        time.sleep(0.005)
    remote.send(tmp_path / "step-00000002")
    remote.send(tmp_path / "step-00000003")
    assert {path.name for path in remote.sending()} == {"step-00000001", "step-00000003"}
    gate.set()
    remote.wait()
    assert complete() == ["00000001", "00000003"]
    assert len(sent) == 6 + 6 and len(set(sent)) == 12  # nothing twice
    marker = json.loads(bucket.get(next(e.key for e in bucket.list() if e.key.endswith("complete.json"))))
    assert marker == json.loads((tmp_path / "step-00000001/complete.json").read_text())


def test_an_address_that_is_none_is_refused_with_the_parameters() -> None:
    with pytest.raises(ValueError, match="is not s3://bucket/key"):
        Checkpointing(remote="bucket/runs")


def test_prune_takes_what_finished_runs_left_and_nothing_else(tmp_path: Path, endpoint: str, monkeypatch) -> None:
    for run in ("done1", "others"):
        settings = Checkpointing(keep=2, remote="s3://checkpoints/prune")
        checkpoints = open_checkpoints(settings, tmp_path / run, {"fingerprint": run, "phase": "first"})
        checkpoints.save(1, make_state(1), {"step": 1})
        checkpoints.wait(remote=True)
    parameters = (ROOT / "params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(re.sub(r"(?m)^    remote:[^\n]*$", "    remote: s3://checkpoints/prune", parameters))
    with Workspace(tmp_path) as place:
        told = {"stage": "train", "cell": "train@first", "finished": "2026-01-01T00:00:00+00:00", "outputs": {}}
        place.write_record(told | {"fingerprint": "done1"})
    before = keys("prune/")
    listed = CliRunner().invoke(app, ["checkpoint", "prune", "--json"])
    assert [one["fingerprint"] for one in json.loads(listed.stdout)] == ["done1"] and keys("prune/") == before
    assert CliRunner().invoke(app, ["checkpoint", "prune", "--delete"]).exit_code == 0
    assert keys("prune/") == [key for key in before if not key.startswith("done1/")] != []
    assert json.loads(CliRunner().invoke(app, ["checkpoint", "prune", "--json"]).stdout) == []
