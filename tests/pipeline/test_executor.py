"""What is done is not done again; what differs is; nothing half-done is ever taken for done."""

from __future__ import annotations

import threading

import pytest
import tiny_line
from tiny_line import bodies, new_workspace

from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.errors import GokuError, StageFailed
from goku_core.pipeline.executor import execute
from goku_core.pipeline.fingerprint import Digests


def run_all(workspace, **params):
    return [execute(cell, workspace) for cell in tiny_line.cells(tiny_line.Params(**params))]


def statuses(outcomes):
    return {outcome.cell: outcome.status for outcome in outcomes}


@pytest.fixture
def workspace(tmp_path):
    return new_workspace(tmp_path / "w")


def test_runs_once_then_finds_everything_done(workspace):
    first = run_all(workspace)
    assert set(statuses(first).values()) == {"ran"}
    count = len(bodies(workspace))
    second = run_all(workspace)
    assert set(statuses(second).values()) == {"already-done"}
    assert len(bodies(workspace)) == count == 5
    assert [o.fingerprint for o in first] == [o.fingerprint for o in second]


def test_record_says_what_was_done(workspace):
    record = run_all(workspace)[1].record.value
    assert record["cell"] == "join"
    assert record["request"]["text"] == "b"
    assert record["report"] == {"steps_done": 1}
    assert record["driver"] == "direct"
    assert record["inputs"]["data/parts"]["digest"] == run_all(workspace)[0].record.output_digests()["data/parts"]
    assert "tiny_line.py" in record["code"] and "goku_core/collect/__init__.py" not in record["code"]
    assert (workspace / ".goku" / "lineage" / f"{record['lineage']}.json").is_file()


def test_one_parameter_reruns_its_cell_and_what_follows_only(workspace):
    run_all(workspace)
    changed = statuses(run_all(workspace, phases={"one": "c", "two": "NEW"}))
    assert changed == {
        "split": "already-done",
        "join": "already-done",
        "train@one": "already-done",
        "train@two": "ran",
        "close": "ran",
    }


def test_same_output_bytes_cut_the_chain(workspace):
    """A changed parameter that yields the same bytes does not make later cells run."""
    run_all(workspace, split="a b")
    outcome = statuses(run_all(workspace, split="a  b"))
    assert outcome["split"] == "ran"
    assert outcome["join"] == "already-done"


def test_flipping_a_parameter_back_restores(workspace):
    first = run_all(workspace)
    text = (workspace / "reports/end.txt").read_text()
    run_all(workspace, join="other")
    count = len(bodies(workspace))
    back = run_all(workspace)
    assert len(bodies(workspace)) == count
    assert statuses(back) == {
        "split": "already-done",
        "join": "restored",
        "train@one": "restored",
        "train@two": "restored",
        "close": "restored",
    }
    assert (workspace / "reports/end.txt").read_text() == text
    assert [o.record.output_digests() for o in first] == [o.record.output_digests() for o in back]


def test_deleted_and_changed_outputs_are_restored(workspace):
    run_all(workspace)
    (workspace / "data/joined.txt").unlink()
    end = workspace / "reports/end.txt"
    text = end.read_text()
    end.unlink()
    end.write_text("edited by hand")
    (workspace / "data/parts/extra.txt").write_text("a stranger")
    outcome = statuses(run_all(workspace))
    assert len(bodies(workspace)) == 5
    assert outcome["split"] == outcome["join"] == outcome["close"] == "restored"
    assert end.read_text() == text
    assert not (workspace / "data/parts/extra.txt").exists()


def test_an_edit_in_place_damages_the_store_and_is_noticed(workspace, capsys):
    run_all(workspace)
    joined = workspace / "data/joined.txt"
    text = joined.read_text()
    joined.chmod(0o644)
    joined.write_text("edited in place, and with it the store's object: it is the same inode")
    outcome = statuses(run_all(workspace))
    assert outcome["join"] == "ran"
    assert "damaged" in capsys.readouterr().err
    assert joined.read_text() == text


def test_a_changed_input_file_counts_by_content_not_by_date(workspace):
    run_all(workspace)
    source = workspace / "source.txt"
    source.write_text(source.read_text())  # another date, same bytes
    assert set(statuses(run_all(workspace)).values()) == {"already-done"}
    source.write_text("something else")
    assert set(statuses(run_all(workspace)).values()) == {"ran"}


def test_the_seed_is_part_of_the_work(workspace):
    run_all(workspace)
    assert statuses(run_all(workspace, seed=1))["split"] == "ran"


def test_missing_input_names_what_to_run(workspace):
    cells = tiny_line.cells(tiny_line.Params())
    with pytest.raises(GokuError, match=r"close: its input models/two.txt is not there. Run `goku run train@two`"):
        execute(cells[-1], workspace)
    assert bodies(workspace) == []


def test_a_failing_body_leaves_outputs_and_records_alone(workspace, monkeypatch):
    run_all(workspace)
    text = (workspace / "data/joined.txt").read_text()
    monkeypatch.setenv("TINY_FAIL", "data/joined.txt")
    with pytest.raises(StageFailed, match="the disk is on fire") as caught:
        run_all(workspace, join="other")
    assert caught.value.retriable
    assert (workspace / "data/joined.txt").read_text() == text
    attempt = (workspace / ".goku/attempts.jsonl").read_text().splitlines()[-1]
    assert '"event":"failed"' in attempt and "the disk is on fire" in attempt
    monkeypatch.delenv("TINY_FAIL")
    outcome = run_all(workspace, join="other")[1]
    assert (outcome.status, outcome.record.value["attempt"]) == ("ran", 2)


def test_undeclared_and_missing_outputs_are_refused(workspace, monkeypatch):
    split = tiny_line.cells(tiny_line.Params())[0]
    body = tiny_line.run

    def careless(request, context):
        context.output("data/more.txt").write_text("not declared")
        return body(request, context)

    monkeypatch.setattr(tiny_line, "run", careless)
    with pytest.raises(StageFailed, match=r"data/more\.txt"):
        execute(split, workspace)
    monkeypatch.setattr(tiny_line, "run", lambda request, context: tiny_line.Report(steps_done=0))
    with pytest.raises(StageFailed, match="did not write its declared output data/parts"):
        execute(split, workspace)


def test_an_input_that_changes_meanwhile_is_refused(workspace, monkeypatch):
    body = tiny_line.run

    def disturbed(request, context):
        (context.workspace / "source.txt").write_text("changed while the body ran")
        return body(request, context)

    monkeypatch.setattr(tiny_line, "run", disturbed)
    with pytest.raises(StageFailed, match=r"source\.txt changed while it ran"):
        execute(tiny_line.cells(tiny_line.Params())[0], workspace)


def test_strict_reruns_when_code_changed(workspace, monkeypatch):
    from goku_core.pipeline import code

    split = tiny_line.cells(tiny_line.Params())[0]
    execute(split, workspace)
    monkeypatch.setattr(code, "modules", lambda room: {"tiny_line.py": "another digest"})
    assert execute(split, workspace).status == "already-done"
    assert execute(split, workspace, strict=True).status == "ran"
    assert execute(split, workspace, strict=True).status == "already-done"


def test_two_at_once_in_one_process(workspace, capsys):
    split = tiny_line.cells(tiny_line.Params(step_seconds=0.5))[0]
    outcomes = []
    threads = [threading.Thread(target=lambda: outcomes.append(execute(split, workspace))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.status for outcome in outcomes) == ["already-done", "ran"]
    assert bodies(workspace) == ["data/parts"]
    assert "waiting" in capsys.readouterr().err


def test_nothing_temporary_is_left(workspace):
    run_all(workspace)
    goku = workspace / ".goku"
    for name in ("staging", "scratch", "aside"):
        assert not list((goku / name).glob("*")) if (goku / name).exists() else True


def test_store_shares_bytes_with_the_workspace(workspace):
    run_all(workspace)
    with Workspace(workspace) as place:
        tree = place.digests.tree(workspace / "data/joined.txt")
        assert place.store.place(tree.digest).samefile(workspace / "data/joined.txt")


def test_digests_survive_a_damaged_cache(tmp_path):
    file = tmp_path / "file"
    file.write_text("bytes")
    (tmp_path / "digests.sqlite").write_bytes(b"not a database at all, but long enough to be refused" * 20)
    digests = Digests(tmp_path / "digests.sqlite")
    assert digests.file(file) == "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9"


def test_folder_digest_sees_names_and_empty_folders(tmp_path):
    digests = Digests(tmp_path / "digests.sqlite")
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x").write_text("1")
    (tmp_path / "b" / "y").write_text("1")
    assert len({digests.tree(tmp_path / name).digest for name in ("a", "b", "c")}) == 3
    assert digests.tree(tmp_path / "nothing") is None
