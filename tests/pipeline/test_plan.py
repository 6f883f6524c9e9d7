from __future__ import annotations

import pytest
import tiny_line
from tiny_line import new_workspace

from goku_core.lineage import chain
from goku_core.pipeline import code
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import execute
from goku_core.pipeline.line import select, wire
from goku_core.pipeline.plan import plan


@pytest.fixture
def workspace(tmp_path):
    workspace = new_workspace(tmp_path / "w")
    for cell in tiny_line.cells(tiny_line.Params()):
        execute(cell, workspace)
    return workspace


def planned(workspace, strict=False, **params):
    return {e.cell: e for e in plan(tiny_line.cells(tiny_line.Params(**params)), workspace, strict)}


def test_nothing_done(tmp_path):
    entries = planned(new_workspace(tmp_path / "w"))
    assert {name: e.state for name, e in entries.items()} == {
        "split": "run",
        "join": "after",
        "train@one": "after",
        "train@two": "after",
        "close": "after",
    }
    assert entries["split"].why == ("never done",)
    assert entries["train@two"].why == ("after train@one",)


def test_everything_done(workspace):
    entries = planned(workspace)
    assert {e.state for e in entries.values()} == {"done"}
    assert all(e.seconds is not None and e.fingerprint for e in entries.values())


def test_says_which_parameter(workspace):
    entries = planned(workspace, phases={"one": "c", "two": "longer"})
    assert [e.state for e in entries.values()] == ["done", "done", "done", "run", "after"]
    assert entries["train@two"].why == ("train.text: d -> longer",)


def test_says_which_input(workspace):
    (workspace / "source.txt").write_text("another beginning")
    assert planned(workspace)["split"].why == ("input source.txt: changed",)


def test_sees_through_outputs_that_are_only_in_the_store(workspace):
    (workspace / "data/joined.txt").unlink()
    entries = planned(workspace)
    assert [e.state for e in entries.values()] == ["done", "restore", "done", "done", "done"]


def test_code_change_is_a_note_unless_strict(workspace, monkeypatch):
    now = code.modules("tiny_line") | {"tiny_line.py": "another digest"}
    monkeypatch.setattr(code, "modules", lambda room: now)
    assert planned(workspace)["join"].notes == ("code changed since: tiny_line.py",)
    assert planned(workspace)["join"].state == "done"
    assert planned(workspace, strict=True)["split"].state == "run"


def test_a_plan_changes_nothing(workspace):
    before = sorted(p for p in workspace.rglob("*"))
    planned(workspace, join="other")
    assert sorted(p for p in workspace.rglob("*")) == before


def test_select(workspace):
    cells = tiny_line.cells(tiny_line.Params())
    assert [c.name for c in select(cells, ["train", "split"])] == ["split", "train@one", "train@two"]
    assert len(select(cells, [])) == 5
    with pytest.raises(GokuError, match="There is no cell 'trian'"):
        select(cells, ["trian"])


def test_wiring_refuses_a_wrong_order():
    cells = tiny_line.cells(tiny_line.Params())
    with pytest.raises(GokuError, match="made by a later cell"):
        wire(cells[::-1])
    with pytest.raises(GokuError, match="both write"):
        wire([*cells, cells[0]])


def test_lineage_both_ways(workspace):
    found = chain(workspace, "train@one")
    assert [n.cell for n in found.made_from] == ["join", "split"]
    assert [n.cell for n in found.made_into] == ["train@two", "close"]
    (node,) = found.asked
    for name in (node.digest[:10], node.value["fingerprint"], node.outputs["models/one.txt"], "models/one.txt"):
        assert chain(workspace, name) == found
    assert [n.cell for n in chain(workspace, "data/parts/0.txt").asked] == ["split"]
    with pytest.raises(GokuError, match="Nothing here is named 'nonsense'"):
        chain(workspace, "nonsense")


def test_lineage_follows_content_not_the_newest(workspace):
    for cell in tiny_line.cells(tiny_line.Params(join="other")):
        execute(cell, workspace)
    first, second = (n for n in [chain(workspace, "join").asked[0], chain(workspace, "split").made_into[0]])
    assert first.value["request"]["text"] == "other"
    assert second.value["request"]["text"] == "b"
    assert [n.cell for n in chain(workspace, "join").made_into] == ["train@one", "train@two", "close"]


def test_code_of_a_room_follows_imports_without_importing():
    found = code.modules("goku_core.promote")
    assert "goku_core/promote/promotion.py" in found
    assert "goku_core/pipeline/errors.py" in found
    assert "goku_core/cli.py" not in found
