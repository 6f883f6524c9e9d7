from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
import tiny_line
from object_store import object_store
from tiny_line import new_workspace

from benchmarks.measuring import records
from goku_core.lineage import chain
from goku_core.lineage.publication import publish
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import execute
from goku_core.promote import ledger
from goku_core.promote.ledger import Draft


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A workspace of 120 invented pieces of work, and their lineage records."""
    workspace = tmp_path_factory.mktemp("history")
    return workspace, records.write(workspace, 120, files=3, code=2)


def entry(bundle):
    return Draft(
        decision="promoted", bundle=bundle, champion=bundle, against=None, score=0.5, interval=(0.4, 0.6),
        protocol="p", evidence="0" * 64, reason="better",
    )  # fmt: skip


def reached(values, start, forwards):
    """Fingerprints of all that a piece of work led to, or came from: by asking everybody about everybody."""
    found, waiting = set(), [start]
    while waiting:
        one = waiting.pop()
        wrote = set(one["outputs"].items())
        read = {(path, content["digest"]) for path, content in one["inputs"].items()}
        for other in values:
            others_read = {(path, content["digest"]) for path, content in other["inputs"].items()}
            touches = wrote & others_read if forwards else read & set(other["outputs"].items())
            if touches and other["fingerprint"] not in found:
                found.add(other["fingerprint"])
                waiting.append(other)
    return found


def test_both_ways_equals_asking_everybody(history):
    workspace, values = history
    for value in values[::7]:
        found = chain(workspace, value["fingerprint"])
        assert [node.fingerprint for node in found.asked] == [value["fingerprint"]]
        assert {node.fingerprint for node in found.made_from} == reached(values, value, forwards=False)
        assert {node.fingerprint for node in found.made_into} == reached(values, value, forwards=True)
        assert found.asked[0].value["request"] == value["request"]


def test_every_kind_of_name_leads_to_every_other(history):
    workspace, values = history
    promoted = next(value for value in values if value["cell"] == "promote")
    whole = chain(workspace, promoted["fingerprint"])
    names = whole.names()
    assert all(names[kind] for kind in ("commits", "datasets", "fingerprints", "mlflow_runs", "models"))
    (evaluation,) = promoted["inputs"].keys() & {"reports/evaluation"}
    record = json.loads((workspace / f".goku/records/promote/{promoted['fingerprint']}.json").read_text())
    for name in (
        promoted["mlflow_run"][:10],
        promoted["outputs"]["reports/promotion.json"],
        record["report"]["digest"][:12],  # the bundle
        record["lineage"],
    ):
        assert chain(workspace, name) == whole, name
    evaluated = chain(workspace, promoted["inputs"][evaluation]["digest"])
    assert promoted["fingerprint"] in {node.fingerprint for node in evaluated.made_into}
    file = json.loads((workspace / f".goku/records/train/{names['fingerprints'][-3]}.json").read_text())
    (tree,) = file["outputs"].values()
    sample = tree["files"]["part-1.bin"]
    assert names["fingerprints"][-3] in {node.fingerprint for node in chain(workspace, sample[:16]).asked}
    for dataset in names["datasets"]:
        assert promoted["fingerprint"] in {n.fingerprint for n in chain(workspace, dataset[:12]).made_into}
    of_commit = chain(workspace, promoted["git"]["commit"][:12])
    assert {n.fingerprint for n in of_commit.asked} == {
        v["fingerprint"] for v in values if v["git"]["commit"] == promoted["git"]["commit"]
    }


def test_the_ledgers_names_lead_to_the_records(history, tmp_path):
    workspace, values = history
    copy = tmp_path / "w"
    shutil.copytree(workspace, copy)
    promoted = [value for value in values if value["cell"] == "promote"][:2]
    bundles = []
    for value in promoted:
        record = json.loads((copy / f".goku/records/promote/{value['fingerprint']}.json").read_text())
        bundles.append(record["report"]["digest"])
        ledger.append(copy, lambda _, bundle=bundles[-1]: entry(bundle))
    for name, value in (
        ("champion", promoted[1]),
        ("previous", promoted[0]),
        ("1", promoted[0]),
        ("goku@2", promoted[1]),
    ):
        found = chain(copy, name)
        assert [node.fingerprint for node in found.asked] == [value["fingerprint"]], name
        assert [entry.bundle for entry in found.entries] == [found.asked[0].bundle]
    assert chain(copy, "champion").names()["models"] == [f"version 2: {bundles[1]}"]
    with pytest.raises(GokuError, match="Nothing here is named 'challenger'"):
        chain(copy, "challenger")


def test_from_a_bucket_alone(history, tmp_path, monkeypatch):
    workspace, values = history
    promoted = next(value for value in values if value["cell"] == "promote")
    here = chain(workspace, promoted["fingerprint"]).as_json()
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy)
    ledger.append(copy, lambda _: entry("0" * 64))
    with object_store("archive"):
        assert publish(copy, "s3://archive/team") == 2 * len(values) + 1
        assert publish(copy, "s3://archive/team/") == 0
        (copy / "ledger/000001.json").unlink()
        ledger.append(copy, lambda _: entry("1" * 64))
        with pytest.raises(GokuError, match="an entry of another ledger"):
            publish(copy, "s3://archive/team")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        for _ in range(2):
            assert chain(elsewhere, promoted["fingerprint"], "s3://archive/team").as_json() == here
        with pytest.raises(GokuError, match="s3://archive/nothing: no records/"):
            chain(elsewhere, promoted["fingerprint"], "s3://archive/nothing")
        with pytest.raises(GokuError, match="not s3://bucket/key"):
            chain(elsewhere, promoted["fingerprint"], "s3:///team")
    assert chain(elsewhere, promoted["fingerprint"], str(workspace)).as_json() == here
    with pytest.raises(GokuError, match="is no folder"):
        chain(elsewhere, promoted["fingerprint"], str(tmp_path / "not there"))


def test_the_index_follows_the_records(tmp_path):
    workspace = new_workspace(tmp_path / "w")
    cells = tiny_line.cells(tiny_line.Params())
    for number, cell in enumerate(cells):
        execute(cell, workspace)
        assert len(chain(workspace, "split").nodes) == number + 1
    index = workspace / ".goku" / "lineage.sqlite"
    whole = chain(workspace, "close")
    index.write_bytes(b"no database, but long enough to be taken for one" * 100)
    assert chain(workspace, "close") == whole
    index.unlink()
    assert chain(workspace, "close") == whole
    with sqlite3.connect(index) as database:
        database.execute("PRAGMA user_version = 99")
    assert chain(workspace, "close") == whole
    (record,) = (workspace / ".goku/records/close").iterdir()
    record.unlink()  # the commit is gone: what it names counts no longer
    assert [node.cell for node in chain(workspace, "split").made_into] == [
        n.cell for n in whole.made_from if n.cell != "split"
    ][::-1]


def test_what_was_done_again_is_still_where_the_rest_came_from(tmp_path):
    # The record of work done again takes the place of the old one; what the old one wrote lives on in what was made of it.
    workspace = new_workspace(tmp_path / "w")
    for cell in tiny_line.cells(tiny_line.Params()):
        execute(cell, workspace)
    before = chain(workspace, "close")
    (file,) = Path(workspace, ".goku/records/join").glob("*.json")
    record = json.loads(file.read_text())
    again = {key: record[key] for key in json.loads(
        (workspace / ".goku/lineage" / f"{record['lineage']}.json").read_text())} | {"finished": "2099-01-01T00:00:00"}  # fmt: skip
    again["outputs"] = {"data/joined.txt": "f" * 64}
    tree = {"digest": "f" * 64, "folder": False, "files": {"": "f" * 64}, "sizes": {"": 1}}
    (workspace / ".goku/lineage" / ("e" * 64 + ".json")).write_text(json.dumps(again))
    file.write_text(json.dumps(record | again | {"lineage": "e" * 64, "outputs": {"data/joined.txt": tree}}))
    after = chain(workspace, "close")
    assert {node.digest for node in after.made_from} == {node.digest for node in before.made_from}
    assert chain(workspace, "join").asked[0].digest == "e" * 64
    assert chain(workspace, "join").made_into == ()
    assert record["lineage"] in {node.digest for node in chain(workspace, "split").made_into}


def test_a_document_that_never_became_a_commit_is_nothing(tmp_path):
    workspace = new_workspace(tmp_path / "w")
    cells = tiny_line.cells(tiny_line.Params())
    for cell in cells[:2]:
        execute(cell, workspace)
    (file,) = (workspace / ".goku/records/join").iterdir()
    file.unlink()  # killed between the lineage record and the commit record
    assert chain(workspace, "split").made_into == ()
    execute(cells[1], workspace)
    assert [node.cell for node in chain(workspace, "split").made_into] == ["join"]
