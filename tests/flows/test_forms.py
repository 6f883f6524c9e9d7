"""What a deployment lets through, and what it is made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from prefect.context import FlowRunContext
from served_workspace import ROOT, small_workspace

from flows.forms import entry, form, inside
from flows.pools import QUEUES
from goku_core.pipeline.errors import GokuError
from goku_core.services.registration import basis

DECLARED = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("path", ["/etc", "..", "elsewhere/../..", "link"])
def test_a_deployed_run_stays_in_its_folder(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "w"
    place.mkdir()
    (place / "link").symlink_to(tmp_path)
    monkeypatch.chdir(place)
    assert inside(path) == Path(path).resolve(), "in a shell of one's own every folder may be named"
    with FlowRunContext.model_construct(flow_run=SimpleNamespace(deployment_id="one")):
        assert inside(".") == place
        with pytest.raises(GokuError, match="which this deployment is for"):
            inside(path)


@pytest.mark.parametrize("declared", DECLARED, ids=lambda one: one["entrypoint"])
def test_forms_ask_what_the_flow_takes(declared: dict, tmp_path: Path) -> None:
    flow = entry(declared["entrypoint"])
    assert declared["entrypoint"] == f"{flow.fn.__module__}.{flow.name}"
    assert declared["work_pool"]["work_queue_name"] in {"default", *QUEUES}
    facts = basis(small_workspace(tmp_path / "w"))
    asked = form(flow, facts)["properties"]
    assert set(asked) == set(flow.fn.__annotations__) - {"return", "workspace"}
    for name, field in asked.items():
        assert field["description"] and field["type"] in ("array", "boolean", "string", "integer", "object"), name
        assert field.get("default", "") is not None, "a form cannot give null back"


def test_the_basis_changes_with_what_the_forms_and_tags_say(tmp_path: Path) -> None:
    place = small_workspace(tmp_path / "w")
    before = basis(place)
    assert json.loads(json.dumps(before)) == before, "else the forms would be registered anew by every `goku up`"
    assert before["dataset"] is None and before["cells"][0] == "collect" and "train@joint_low" in before["cells"]
    (place / "data").mkdir()
    (place / "data/clips.parquet").write_bytes(b"a table")
    assert basis(place)["dataset"] == hashlib.sha256(b"a table").hexdigest()[:12]
    text = (place / "params.yaml").read_text()
    (place / "params.yaml").write_text(text.replace("finetune_i2v", "first_picture"))
    assert basis(place)["phases"] == [*before["phases"][:-1], "first_picture"]
    (place / "prefect.yaml").write_text((ROOT / "prefect.yaml").read_text() + "# another\n")
    assert basis(place)["declaration"] != before["declaration"]
