"""A record that git or DVC brought is believed only where its names stay in the workspace and are those of the cell."""

from __future__ import annotations

import json
import shutil

import pytest
import tiny_line
from tiny_line import bodies, new_workspace

from goku_core.pipeline.executor import execute
from goku_core.pipeline.fingerprint import Tree
from goku_core.pipeline.plan import plan
from goku_core.pipeline.versions import beside


def split(workspace):
    return execute(tiny_line.cells(tiny_line.Params())[0], workspace)


@pytest.fixture
def workspace(tmp_path):
    """Of one finished cell, whose record is by now only carried; the store has the bytes."""
    workspace = new_workspace(tmp_path / "w")
    split(workspace)
    shutil.rmtree(workspace / ".goku/records")
    return workspace


def change(workspace, **keys):
    file = workspace / "records/split.json"
    value = json.loads(file.read_text()) | keys
    file.unlink()
    file.write_text(json.dumps(value))
    return value


def parts(workspace):
    return json.loads((workspace / "records/split.json").read_text())["outputs"]["data/parts"]


def test_a_carried_record_as_it_was_written_counts(workspace):
    assert split(workspace).status == "already-done"


@pytest.mark.parametrize("path", ["../planted.txt", "source.txt", ".git/hooks/post-checkout", "data/parts/../../x"])
def test_outputs_that_the_cell_does_not_declare_are_not_restored(workspace, path):
    tree = parts(workspace)
    file = Tree({"": tree["files"]["0.txt"]}, {"": 1}).as_json()
    change(workspace, outputs={path: file})
    before = (workspace / "source.txt").read_text()
    line = tiny_line.cells(tiny_line.Params())[:1]
    assert plan(line, workspace)[0].state == "run"
    assert split(workspace).status == "ran"
    assert not (workspace.parent / "planted.txt").exists() and not (workspace / ".git").exists()
    assert (workspace / "source.txt").read_text() == before and len(bodies(workspace)) == 2


@pytest.mark.parametrize(
    "name", ["../../../planted.txt", "/planted.txt", "a/../../x", "a\\..\\x", "", ".", "a//b", "a\0b"]
)
def test_file_names_that_lead_out_of_their_output_void_the_record(workspace, name):
    tree = parts(workspace)
    files = tree["files"] | {name: tree["files"]["0.txt"]}
    change(workspace, outputs={"data/parts": tree | {"files": files, "sizes": dict.fromkeys(files, 1)}})
    assert beside.read(workspace / "records/split.json") is None
    assert split(workspace).status == "ran"
    assert not (workspace.parent / "planted.txt").exists()


def test_a_digest_that_is_a_path_removes_no_file(workspace):
    """The store drops an object that has other bytes than its name says: a name must not point elsewhere."""
    mine = workspace.parent / "mine.txt"
    mine.write_text("not the store's")
    tree = parts(workspace)
    change(workspace, outputs={"data/parts": tree | {"files": tree["files"] | {"x": str(mine)}}})
    assert split(workspace).status == "ran"
    assert mine.read_text() == "not the store's"


@pytest.mark.parametrize("cell", ["../planted", "a/b", 7])
def test_a_cell_that_is_a_path_voids_the_record(workspace, cell):
    change(workspace, cell=cell)
    assert split(workspace).status == "ran"
    assert not (workspace / "planted.json").exists()
