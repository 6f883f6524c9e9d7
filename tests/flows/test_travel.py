"""A fresh clone that has pulled the bytes repeats nothing; a record that does not fit its bytes is not believed."""

from __future__ import annotations

import json

import pytest
from driven_line import clone, commit, digests, driven, dvc, forget, goku, install_in_process, repro, run_flow
from object_store import object_store
from tiny_line import bodies

BUCKET = "versions-of-data"


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A finished line whose data lie in a bucket, and whose code, dvc.lock, numbers and curves are committed."""
    with object_store(BUCKET, endpoint_in_environment=False) as url:
        workspace = driven(tmp_path_factory.mktemp("origin") / "w")
        dvc(workspace, "remote", "add", "-d", "bucket", f"s3://{BUCKET}/dvc")
        dvc(workspace, "remote", "modify", "bucket", "endpointurl", url)
        repro(workspace)
        commit(workspace, "the whole line")
        dvc(workspace, "push")
        yield workspace


def statuses(workspace):
    done = goku(workspace, "run", "--no-flow", "--json")
    assert done.returncode == 0, done.stderr
    return {o["cell"]: o["status"] for o in json.loads(done.stdout)}


def test_a_fresh_clone_that_pulled_executes_nothing(pushed, tmp_path):
    fresh = clone(pushed, tmp_path / "clone")
    assert not (fresh / ".goku").exists() and not (fresh / "data").exists()
    dvc(fresh, "pull")
    assert {entry["state"] for entry in json.loads(goku(fresh, "plan", "--json").stdout)["cells"]} == {"done"}
    assert set(statuses(fresh).values()) == {"already-done"}
    assert bodies(fresh) == []
    assert digests(fresh) == digests(pushed)
    (fresh / "data/joined.txt").unlink()  # by now the clone has a store of its own
    assert statuses(fresh)["join"] == "restored"
    made_from = json.loads(goku(fresh, "lineage", "train@one", "--json").stdout)["made_from"]
    assert [node["cell"] for node in made_from] == ["join", "split"]
    repro(fresh)
    assert bodies(fresh) == []


@pytest.mark.platform
def test_repro_is_the_first_to_ask_in_a_fresh_clone(pushed, tmp_path):
    """DVC removes the outputs, and the records, of what it runs before it asks: they come back from its cache."""
    fresh = clone(pushed, tmp_path / "clone")
    dvc(fresh, "pull")
    repro(fresh, "--force")
    assert bodies(fresh) == []
    assert digests(fresh) == digests(pushed)


@pytest.mark.platform
def test_the_flow_in_a_fresh_clone(pushed, tmp_path, monkeypatch, prefect_server):
    fresh = clone(pushed, tmp_path / "clone")
    dvc(fresh, "pull")
    install_in_process(monkeypatch)
    assert set(run_flow(fresh).values()) == {"already-done"}
    assert bodies(fresh) == []


@pytest.mark.platform
def test_records_without_their_bytes_are_no_answer(pushed, tmp_path):
    fresh = clone(pushed, tmp_path / "clone")
    dvc(fresh, "pull", "records/split.json")
    assert statuses(fresh)["split"] == "ran"


@pytest.mark.platform
def test_a_record_that_was_changed_on_the_way_is_not_believed(pushed, tmp_path):
    fresh = clone(pushed, tmp_path / "clone")
    dvc(fresh, "pull")
    for place in [fresh / "records/split.json", *(fresh / ".dvc/cache/files/md5").rglob("*")]:
        if place.is_file() and b'"cell": "split"' in place.read_bytes():
            value = json.loads(place.read_text()) | {"seed": 7}
            place.unlink()
            place.write_text(json.dumps(value))
    assert statuses(fresh)["split"] == "ran"


@pytest.mark.platform
def test_a_second_answer_from_the_clone_survives_the_loss_of_what_it_remembered(pushed, tmp_path):
    fresh = clone(pushed, tmp_path / "clone")
    dvc(fresh, "pull")
    statuses(fresh)
    forget(fresh)
    assert set(statuses(fresh).values()) == {"already-done"}


def test_commands_of_the_page_are_commands_of_dvc():
    """docs/dvc.md, read by DVC's own parser; what they do is tested above."""
    import re
    import shlex

    from driven_line import ROOT
    from dvc.cli.parser import get_main_parser

    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "docs/dvc.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    spoken = [shlex.split(line)[1:] for line in lines if line.startswith("dvc ")]
    assert len(spoken) > 7
    for words in spoken:
        get_main_parser().parse_args(words)
