"""Parameters changed for one run: as if params.yaml said so, and nothing more than that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from served_workspace import ROOT, small_workspace

from goku_core import config
from goku_core.changes import changed, difference, of_cell, read_changes, refuse_stale
from goku_core.pipeline import line
from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.plan import plan

PARAMS = config.load_params(ROOT / "params.yaml")


def requests(params: config.Params) -> dict[str, Any]:
    return {cell.name: cell.request_json() for cell in line.cells(params)}


def test_a_change_is_what_the_file_would_have_said(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert text.count("  muon_ratio: 2 ") == 1
    (tmp_path / "params.yaml").write_text(text.replace("  muon_ratio: 2 ", "  muon_ratio: 3 "))
    edited = config.load_params(tmp_path / "params.yaml")
    assert config.load_params(ROOT / "params.yaml", {"train": {"muon_ratio": 3}}) == edited
    assert difference(PARAMS, edited) == {"train": {"muon_ratio": 3.0}}
    assert of_cell(PARAMS, edited, "train@joint_low") == {"train.muon_ratio": [2.0, 3.0]}
    assert of_cell(PARAMS, edited, "vae") == {}


def test_only_the_cells_concerned_are_other_work() -> None:
    changes = {"train": {"phases": {"joint_mid": {"steps": 61}}}, "collect": {"sample": {"shots_per_video": [3, 5]}}}
    after = changed(PARAMS, changes)
    before, now = requests(PARAMS), requests(after)
    assert [name for name in before if before[name] != now[name]] == ["train@joint_mid"]
    assert difference(PARAMS, after) == {"train": {"phases": {"joint_mid": {"steps": 61}}}}
    assert of_cell(PARAMS, after, "train@joint_mid") == {"train.phases.joint_mid.steps": [60, 61]}
    assert of_cell(PARAMS, after, "train@joint_low") == {}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train": {"muon_ration": 3}}, r"changes: train\.muon_ration: unknown key\. Did you mean train\.muon_ratio"),
        ({"trian": {}}, r"trian: unknown key\. Did you mean train"),
        ({"train": {"muon_ratio": -1}}, r"train\.muon_ratio: it should be greater than 0 \(given: -1\)"),
        ({"train": {"transport": {"law": "mode", "scale": 3}}}, "law mode takes -1 to 1.75"),
        ({"train": {"parallel": {"ranks_per_node": 3, "sequence": 2}}}, "are no multiple of"),
        ({"train": {"phases": {"another": {"steps": 3}}}}, r"phases\.another: params\.yaml has none of that name"),
        ({"train": {"phases": {"joint_low": {"resolution": "huge"}}}}, "'huge' is no resolution of precompute"),
        ({"train": {"checkpoint": {"remote": "s3://elsewhere"}}}, r"checkpoint\.remote: .*only params\.yaml may say"),
        ({"collect": {"source": "/etc"}}, r"collect\.source: .*only params\.yaml may say"),
        ({"collect": {"download": {"allow_hosts": ["metadata"]}}}, r"allow_hosts: .*only params\.yaml may say"),
        ({"curate": {"captions": {"clip": {"key_variable": "HOME"}}}}, r"key_variable: .*only params\.yaml may say"),
        ({"promote": {"gate": {"minimum_score": 0}}}, r"promote: cannot be changed for one run"),
        ({"tracking": {"uri": "https://elsewhere"}}, r"tracking: cannot be changed for one run"),
        ({"train": 3}, "train"),
    ],
)
def test_what_params_yaml_may_not_say_or_alone_may_say_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(GokuError, match=says):
        changed(PARAMS, changes)


@pytest.mark.parametrize("text", ["[1]", "{", '{"seed": NaN}', "null"])
def test_a_file_that_holds_no_changes_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "changes.json").write_text(text)
    with pytest.raises(GokuError, match=r"changes\.json"):
        read_changes(tmp_path / "changes.json")
    with pytest.raises(GokuError, match=r"no\.json"):
        read_changes(tmp_path / "no.json")


def test_a_form_older_than_params_yaml_is_not_taken_for_a_wish() -> None:
    shown = {"train": {"muon_ratio": 1.5, "clip_norm": 1.0}}
    with pytest.raises(GokuError, match=r"muon_ratio was 1\.5 and is 2\.0 now.*goku up"):
        refuse_stale({"train": {"muon_ratio": 1.5, "clip_norm": 2.0}}, shown, PARAMS)
    refuse_stale({"train": {"clip_norm": 2.0}}, shown, PARAMS)  # a caller who sends nothing else means what he sends
    refuse_stale({"train": {"muon_ratio": 2.5, "clip_norm": 1.0}}, shown, PARAMS)


def test_goku_run_takes_them_and_the_record_says_so(tmp_path: Path) -> None:
    """A real first cell in a process of its own; then plan tells the difference, and params.yaml's own work is as before."""
    place = small_workspace(tmp_path / "w")
    (place / "more.json").write_text(json.dumps({"collect": {"sample": {"images": 3, "videos": 1}}}))
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

    def goku(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "goku_core.cli", *words], cwd=place, env=os.environ | {"PYTHONPATH": paths},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = goku("run", "collect", "--no-flow", "--changes", "more.json", "--json")
    assert done.returncode == 0, done.stderr
    with Workspace(place) as here:
        (record,) = here.records()
    assert record.value["changes"] == {"collect.sample.images": [2, 3]}
    assert record.value["request"]["sample"]["images"] == 3
    chain = json.loads(goku("lineage", "collect", "--json").stdout)
    assert chain["asked"][0]["record"]["changes"] == {"collect.sample.images": [2, 3]}
    (entry, *_) = plan(line.cells(config.load_params(place / "params.yaml")), place)
    assert entry.state == "run" and "collect.sample.images: 3 -> 2" in entry.why

    edited = yaml.safe_load((place / "params.yaml").read_text())
    edited["collect"]["sample"]["images"] = 3
    (place / "params.yaml").write_text(yaml.safe_dump(edited, sort_keys=False))
    again = json.loads(goku("run", "collect", "--no-flow", "--json").stdout)
    assert [one["status"] for one in again] == ["already-done"]
    refused = goku("run", "collect", "--no-flow", "--changes", "params.yaml")
    assert refused.returncode == 2 and "must be a JSON file" in refused.stderr
