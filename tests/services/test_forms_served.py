"""Runs asked for through the API and through the pages, on real servers and a real worker: forms, states, artifacts.

One set of servers for this file; its tests build on each other and run in order.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_workspace import Begun, call, small_workspace

from goku_core import config, forms
from goku_core.pipeline import line
from goku_core.pipeline.plan import plan

pytestmark = pytest.mark.platform
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--no-first-run",
]  # fmt: skip
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PATIENCE = 90_000  # ms, for a page of a server on a busy machine


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    place = Begun(small_workspace(tmp_path_factory.mktemp("forms") / "w"))
    try:
        done = place.goku("up", "--timeout", "240")
        assert done.returncode == 0, done.stderr
        yield place
    finally:
        place.goku("down", "--grace", "5")


@pytest.fixture(scope="module")
def page(served: Begun) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        shown = browser.new_page(viewport={"width": 1200, "height": 1400})
        shown.set_default_timeout(PATIENCE)
        yield shown
        browser.close()


def deployment(served: Begun, name: str) -> dict[str, Any]:
    status, found = call(f"{served.api}/deployments/name/{name}/local")
    assert status == 200, found
    return found


def untouched(served: Begun, name: str) -> dict[str, Any]:
    """What the page of a deployment sends when nobody touches a field."""
    return forms.shown(deployment(served, name)["parameter_openapi_schema"]["properties"]["changes"])


def runs(served: Begun) -> list[dict[str, Any]]:
    return call(f"{served.api}/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC"})[1]


def artifacts(served: Begun, run: str) -> dict[str, list[dict[str, Any]]]:
    """Artifacts of a run, by type."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in call(f"{served.api}/artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})[1]:
        found.setdefault(one["type"], []).append(one)
    return found


def cells(served: Begun, run: str) -> list[tuple[str, str, str]]:
    """What the run's own table says of each cell: name, status, beginning of the fingerprint."""
    (table,) = [one for one in artifacts(served, run)["table"] if one["key"] == "cells"]
    return [(row["cell"], row["status"], row["fingerprint"]) for row in json.loads(table["data"])]


def started(served: Begun) -> list[str]:
    """Cells whose bodies were started so far, whoever asked."""
    file = served.folder / ".goku/attempts.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [one["cell"] for one in map(json.loads, lines) if one["event"] == "started"]


def test_a_form_sent_untouched_is_the_work_that_goku_run_did(served: Begun) -> None:
    (done,) = served.told("run", "collect", "--no-flow")
    assert done["status"] == "ran"
    sent = untouched(served, "collect")
    assert sent["collect"]["sample"]["images"] == 2
    ended = served.run("collect/local", {"strict": False, "changes": sent})
    assert ended["state_name"] == "Completed", ended["state"]
    assert cells(served, ended["id"]) == [("collect", "already-done", done["fingerprint"][:12])]
    assert started(served) == ["collect"]


def test_a_run_with_other_values_is_other_work_and_says_which(served: Begun) -> None:
    ended = served.run("line/local", {"cells": ["collect"], "changes": {"collect": {"sample": {"images": 3}}}})
    assert ended["state_name"] == "Completed", ended["state"]
    ((_, status, fingerprint),) = cells(served, ended["id"])
    assert status == "ran"
    (record,) = (served.folder / ".goku/records/collect").glob(f"{fingerprint}*.json")
    assert json.loads(record.read_text())["changes"] == {"collect.sample.images": [2, 3]}
    (entry, *_) = plan(line.cells(config.load_params(served.folder / "params.yaml")), served.folder)
    assert entry.state == "restore", "params.yaml still says what was done first"
    (again,) = served.told("run", "collect", "--no-flow")
    assert again["status"] == "restored" and started(served) == ["collect"] * 2


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("collect", {"collect": {"sample": {"videos": 0}}}, "0 is less than the minimum of 1"),
        ("collect", {"collect": {"sample": {"videos": "many"}}}, "is not of type 'integer'"),
        ("collect", {"collect": {"source": "/etc"}}, "'source' was unexpected"),
        ("collect", {"vae": {"steps": 1}}, "'vae' was unexpected"),
        ("train", {"train": {"data": {"source": "s3://elsewhere"}}}, "'source' was unexpected"),
        ("train", {"train": {"optimizer": "sgd"}}, "'sgd' is not one of"),
        ("train", {"train": {"transport": {"law": "mode", "scale": 3}}}, "3 is greater than the maximum of 1.75"),
        ("vae", {"vae": {"batch_images": 0, "batch_clips": 0}}, "0 is less than the minimum of 1"),
        ("line", {"tracking": {"uri": "https://elsewhere"}}, "'tracking' was unexpected"),
        ("evaluate", {"evaluate": {"image_model": "$(id)"}}, "is not one of"),
        ("promote", {}, "'changes' was unexpected"),
    ],
)
def test_bad_values_are_refused_by_the_server(served: Begun, name: str, changes: dict[str, Any], says: str) -> None:
    before = len(runs(served))
    asked = {"parameters": {"changes": changes}}
    status, answer = call(f"{served.api}/deployments/{deployment(served, name)['id']}/create_flow_run", asked)
    assert status == 409 and says in answer["detail"], answer
    assert len(runs(served)) == before


def test_what_passes_the_server_is_refused_before_a_process_starts(served: Begun) -> None:
    """A caller may ask the server to leave the schema out; and some rules no schema can say."""
    asked = [
        ("collect", {"collect": {"source": "/etc"}}, False, "only params.yaml may say"),
        ("vae", {"vae": {"frames": 6}}, True, "must be 4k+1"),
    ]
    before, waiting = started(served), []
    for name, changes, enforced, says in asked:
        body = {"parameters": {"changes": changes}, "enforce_parameter_schema": enforced}
        status, run = call(f"{served.api}/deployments/{deployment(served, name)['id']}/create_flow_run", body)
        assert status == 201, run
        waiting.append((run["id"], says))
    for run, says in waiting:
        ended = end_of(served, run)
        assert ended["state_name"] == "Failed" and says in ended["state"]["message"], ended["state"]
        tasks = call(f"{served.api}/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})[1]
        assert tasks == []
    assert started(served) == before


def test_a_person_fills_in_the_form_and_watches_the_run(served: Begun, page: Any) -> None:
    """Deployment -> custom run -> a bad value is refused, a good one runs -> completed, with what it made to look at."""
    one, address = deployment(served, "curate"), f"http://127.0.0.1:{served.prefect_port}"
    page.goto(f"{address}/v2/deployments/deployment/{one['id']}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    seconds = page.get_by_label("min_seconds (Optional)", exact=True).first
    seconds.wait_for()
    text = page.inner_text("body")
    assert "least length of a raw video, s (paper Table 3: 4) (at least 0)" in text
    order = [text.index(f"\n{name} (Optional)") for name in ("gate", "tiers", "prescreen", "shots", "dedup", "balance")]
    assert order == sorted(order)
    before = len(runs(served))

    width = page.get_by_label("max_hamming (Optional)", exact=True)
    assert width.input_value() == "8"
    width.fill("65")  # above its maximum: the browser itself does not send it
    page.get_by_role("button", name="Submit").click()
    assert "64" in width.evaluate("field => field.validationMessage")
    width.fill("8")
    clip = page.get_by_label("max_clip_seconds (Optional)", exact=True)
    clip.fill("0")  # must be above 0, which a browser does not know
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("0 is less than or equal to the minimum of 0", exact=True).wait_for()
    assert len(runs(served)) == before, "a refused form has started something"

    clip.fill("10")
    page.get_by_text("0 is less than or equal to the minimum of 0", exact=True).wait_for(state="hidden")
    page.get_by_label("concurrency (Optional)", exact=True).fill("3")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(f"**/deployments/deployment/{one['id']}**")
    page.get_by_role("link", name="View run").or_(page.get_by_role("button", name="View run")).first.click()
    page.wait_for_url("**/runs/flow-run/**")
    run = runs(served)[0]
    assert run["id"] in page.url and run["deployment_id"] == one["id"]
    page.get_by_text("Completed", exact=True).first.wait_for()
    ended = end_of(served, run["id"])
    assert ended["state_name"] == "Completed"
    ((_, status, fingerprint),) = cells(served, run["id"])
    (record,) = (served.folder / ".goku/records/curate").glob(f"{fingerprint}*.json")
    assert status == "ran" and json.loads(record.read_text())["changes"] == {"curate.captions.concurrency": [16, 3]}
    made = artifacts(served, run["id"])
    assert {float(one["data"]) for one in made["progress"]} == {100.0}
    look(page, address, made, served.folder)


def look(page: Any, address: str, made: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    """The artifacts as their pages show them: the funnel with the report's own numbers, a picture that really is one."""
    (funnel,) = [one for one in made["table"] if one["key"] == "curate-funnel"]
    kept = json.loads((folder / "reports/curation/funnel.json").read_text())["total"]["kept"]
    page.goto(f"{address}/v2/artifacts/artifact/{funnel['id']}")
    cell = page.get_by_role("cell", name=str(kept), exact=True)
    cell.first.wait_for()
    assert page.get_by_role("cell", name="candidates", exact=True).count() == 1
    (frames,) = made["markdown"]
    page.goto(f"{address}/v2/artifacts/artifact/{frames['id']}")
    picture = page.locator("img[alt=kept]")
    picture.wait_for()
    deadline = time.monotonic() + 30
    while not picture.evaluate("one => one.complete && one.naturalWidth"):
        assert time.monotonic() < deadline, "the picture was not drawn"
        time.sleep(0.2)


def test_a_form_older_than_params_yaml_is_refused_until_goku_up(served: Begun) -> None:
    text = (served.folder / "params.yaml").read_text()
    assert text.count("    images: 2\n") == 1
    sent = untouched(served, "collect")
    (served.folder / "params.yaml").write_text(text.replace("    images: 2\n", "    images: 3\n"))
    ended = served.run("collect/local", {"changes": sent})
    assert ended["state_name"] == "Failed"
    assert "collect.sample.images was 2 and is 3 now" in ended["state"]["message"]
    assert served.told("up")["registered"] is not None
    assert untouched(served, "collect")["collect"]["sample"]["images"] == 3


def end_of(served: Begun, run: str, seconds: float = 180.0) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        found = call(f"{served.api}/flow_runs/{run}")[1]
        if found["state_type"] in ENDED:
            return found
        assert time.monotonic() < deadline, f"the run is still {found['state_name']}"
        time.sleep(0.5)
