"""What happens by itself, on one real server with a real worker: dead runs, reports, evaluations, approvals, schedules.

In this order. The rules' times are short; everything else is as `goku up` makes it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from browser import PROGRAM, Browser
from promote_workspace import candidate
from served_workspace import ROOT, Place, call, small_workspace

from flows.limits import limit_name
from goku_core.media.encode import write_image
from goku_core.promote import ledger

pytestmark = pytest.mark.platform
SILENCE = 35  # s; heartbeats come every 30
SLEEPER = """
import sys, time
from pathlib import Path
from prefect import flow
from flows.limits import place_to_train

@flow
def line(seconds, stage):
    with place_to_train(stage, Path()):
        time.sleep(float(seconds))

line(*sys.argv[1:])
"""
NAMES = ["goku: dead run", "goku: failed training", "goku: new challenger"]


class Served(Place):
    sleepers: dict[str, subprocess.Popen[bytes]]
    unanswered: str
    killed: float

    def environment(self, **variables: str) -> dict[str, str]:
        return super().environment(GOKU_DEAD_RUN_SECONDS=str(SILENCE), **variables)

    def sleep(self, name: str, seconds: float, stage: str = "") -> None:
        """A run that lasts, started in a shell: no worker looks after it."""
        command = [sys.executable, "-c", SLEEPER, str(seconds), stage]
        environment = self.environment(PREFECT_API_URL=self.api)
        self.sleepers[name] = subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True)

    def beats(self, run: str) -> int:
        wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
        return call(f"{self.api}/events/filter", {"filter": wanted})[1]["total"]

    def filtered(self, what: str, body: Any) -> list[dict[str, Any]]:
        return call(f"{self.api}/{what}/filter", body)[1]

    def runs(self, flow: str) -> list[dict[str, Any]]:
        return self.filtered("flow_runs", {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC"})

    def start(self, deployment: str, **body: Any) -> str:
        found = call(f"{self.api}/deployments/name/{deployment}")[1]
        for _ in range(20):
            status, run = call(f"{self.api}/deployments/{found['id']}/create_flow_run", body)
            if status == 201:
                return run["id"]
            time.sleep(0.5)
        raise AssertionError(run)

    def state(self, run: str) -> str:
        return call(f"{self.api}/flow_runs/{run}")[1]["state_name"]

    def until(self, holds: Callable[[], Any], what: str, seconds: float = 150.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < deadline, what
            time.sleep(0.5)
        return found

    def reaches(self, run: str, *states: str) -> str:
        return self.until(lambda: (s := self.state(run)) in states and s, f"{run} is {self.state(run)}, not {states}")

    def settings(self, **keys: Any) -> None:
        params = yaml.safe_load((self.folder / "params.yaml").read_text())
        params["promote"]["gate"] |= keys
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = Served(small_workspace(tmp_path_factory.mktemp("automations") / "w"))
    place.settings(approver=["Ada", "Ben"])
    place.sleepers = {}
    try:
        done = place.goku("up", "--timeout", "280")
        assert done.returncode == 0, done.stderr
        place.sleep("killed", 600)
        place.sleep("lives", 85)
        yield place
    finally:
        for process in place.sleepers.values():
            process.kill()
            process.wait()
        place.goku("down", "--grace", "5")


def test_rules_schedules_pools_and_retention_are_there_once(served: Served) -> None:
    before = {one["name"]: one["id"] for one in served.filtered("automations", {})}
    assert sorted(before) == NAMES
    waits = {one["name"]: one["trigger"]["id"] for one in served.filtered("automations", {})}
    pools = {one["name"]: one["type"] for one in served.filtered("work_pools", {})}
    assert pools == {"cpu": "process", "gpu": "process"}
    assert {one["state"] for one in served.services().values()} == {"healthy"}
    told = served.told("status", "--services")
    (nightly,) = told["schedules"]
    assert (nightly["entrypoint"], nightly["cron"], nightly["active"]) == (
        "flows.reevaluate.reevaluate",
        "30 2 * * *",
        False,
    )
    server = call(f"{served.api}/admin/settings")[1]["server"]
    assert set(server["services"]["db_vacuum"]["enabled"]) == {"events", "flow_runs"}

    assert call(f"{served.api}/automations/{before[NAMES[2]]}", {"enabled": False}, "PATCH")[0] == 204
    assert served.goku("up", "--schedules").returncode == 0
    after = {one["name"]: one["id"] for one in served.filtered("automations", {})}
    assert after == before, "registered again, the same rules"
    again = {one["name"]: one["trigger"]["id"] for one in served.filtered("automations", {})}
    assert again == waits, "a rule that is made anew forgets which runs it waits for"
    told = served.told("status", "--services")
    assert [one["active"] for one in told["schedules"]] == [True]
    assert [one["enabled"] for one in told["automations"]] == [True, True, False], "what was switched off stays off"
    assert call(f"{served.api}/automations/{before[NAMES[2]]}", {"enabled": True}, "PATCH")[0] == 204
    (served.folder / "prefect.yaml").write_text((ROOT / "prefect.yaml").read_text() + "# anew\n")
    assert served.told("up")["registered"] == 11
    assert served.told("status", "--services")["schedules"][0]["active"], "what was switched on stays on"
    planned = served.until(
        lambda: [one for one in served.runs("reevaluate") if one["auto_scheduled"]], "nothing planned"
    )
    assert {one["expected_start_time"][11:16] for one in planned} == {"02:30"} and planned[0]["parameters"] == {}
    assert served.goku("up", "--no-schedules").returncode == 0
    assert not served.told("status", "--services")["schedules"][0]["active"]
    assert served.runs("reevaluate") == []


def test_prefects_own_command_reads_the_same_file(served: Served) -> None:
    def facts() -> dict[str, tuple[Any, ...]]:
        found = served.filtered("deployments", {})
        kept = ("work_pool_name", "work_queue_name", "name")
        return {
            one["entrypoint"]: (*(one[key] for key in kept), one["global_concurrency_limit"]["limit"]) for one in found
        }

    before = facts()
    assert len(before) == 11
    served.prefect("deploy", "--all", "--no-prompt")
    assert facts() == before
    profiles = {one["entrypoint"]: one["job_variables"] for one in served.filtered("deployments", {})}
    assert profiles["flows.vae.vae"]["node_selector"] == {"goku.dev/pool": "h100"}
    with (served.folder / "prefect.yaml").open("a") as file:
        file.write("# and again\n")
    assert served.told("up")["registered"] == 11
    (train,) = [one for one in served.filtered("deployments", {}) if one["entrypoint"] == "flows.train.train"]
    assert train["job_variables"]["working_dir"] == str(served.folder) and train["enforce_parameter_schema"]


def test_a_failed_training_is_reported(served: Served) -> None:
    runs = served.until(lambda: len(found := served.runs("line")) == 2 and found, "the runs never began")
    served.until(lambda: all(served.beats(run["id"]) for run in runs), "no heartbeat")
    os.killpg(served.sleepers["killed"].pid, signal.SIGKILL)  # what the next test looks at: meanwhile its time runs
    served.killed = time.time()
    for folder in ("data/raw", "data/transcoded"):
        (served.folder / folder).mkdir(parents=True)
    (served.folder / "data/clips.parquet").write_bytes(b"this is no table")
    run = served.start("vae/local")
    candidate(served.folder, 1.0, 0.6)
    served.unanswered = served.start("promote/local", job_variables={"env": {"GOKU_APPROVAL_SECONDS": "5"}})
    served.reaches(run, "Failed")

    def reported() -> Any:
        return [one for one in served.runs("drill") if one["parameters"].get("run") == run]

    served.until(reported, "no report was started")
    time.sleep(2)  # a rule fires at least once, and now and then twice
    for drill in reported():
        served.reaches(drill["id"], "Completed", "Failed")  # failed: this machine is not fit, which it says as well
    wanted = {"artifacts": {"flow_run_id": {"any_": [drill["id"] for drill in reported()]}}}
    made = [(one["key"], one["data"]) for one in served.filtered("artifacts", wanted)]
    told = dict(made)
    assert sorted(key for key, _ in made) == ["post-mortem", "self-check"], "reported once, however often it fired"
    assert (served.folder / f".goku/post-mortems/{run}.md").read_text() == told["post-mortem"]
    assert "vae failed: data" in told["post-mortem"] and "Restore them" in told["post-mortem"]
    assert "disk" in told["self-check"]
    (task,) = served.filtered("task_runs", {"flow_runs": {"id": {"any_": [run]}}})
    assert task["run_count"] == 2, "damaged data: one repetition"


def test_a_dead_run_is_told_from_a_living_one(served: Served) -> None:
    ids = {run["id"] for run in served.runs("line")}
    ended = served.until(
        lambda: [one["id"] for one in served.runs("line") if one["state_name"] == "Crashed"], "nobody noticed", 120
    )
    assert len(ended) == 1
    assert "no heartbeat for 35 s" in call(f"{served.api}/flow_runs/{ended[0]}")[1]["state"]["message"]
    gone = call(f"{served.api}/flow_runs/{ended[0]}")[1]["end_time"]
    assert datetime.fromisoformat(gone).timestamp() - served.killed < SILENCE + 30
    assert served.sleepers["lives"].wait(timeout=120) == 0
    (living,) = ids - set(ended)
    assert served.reaches(living, "Completed") and served.beats(living) >= 3


def test_nobody_answers_in_time_and_the_candidate_still_waits(served: Served) -> None:
    run = served.unanswered  # begun above
    served.reaches(run, "Failed")
    assert "never resumed" in call(f"{served.api}/flow_runs/{run}")[1]["state"]["message"]
    assert [entry.decision for entry in ledger.read(served.folder)] == ["awaiting"]
    done = served.goku("promote", "--approve", "1", "--by", "Ben", "--because", "seen by hand")
    assert done.returncode == 0, done.stderr
    assert ledger.champion(ledger.read(served.folder)).version == 1


def test_a_new_challenger_is_evaluated_and_that_makes_no_other(served: Served) -> None:
    first, *_ = served.until(lambda: served.runs("reevaluate"), "no evaluation was started")
    assert first["parameters"] == {"model": "challenger"}
    served.reaches(first["id"], "Completed", "Failed")  # failed: these weights are no network's
    known = {"event": {"name": ["goku.challenger.entered"]}}
    told = call(f"{served.api}/events/filter", {"filter": known})[1]["events"]
    assert [one["resource"]["goku.decision"] for one in told] == ["awaiting"]


def test_a_suspended_promotion_outlives_the_servers_and_takes_only_an_approvers_word(served: Served) -> None:
    candidate(served.folder, 2.0, 0.8)
    run = served.start("promote/local")
    served.reaches(run, "Suspended")
    assert [one["id"] for one in served.told("status", "--services")["waiting"]] == [run]
    assert ledger.champion(ledger.read(served.folder)).version == 1
    assert served.goku("down", "--grace", "5").returncode == 0
    assert served.goku("up", "--timeout", "280").returncode == 0
    assert served.state(run) == "Suspended"
    candidate(served.folder, 3.0, 0.8)  # judged meanwhile: the answer is about what was asked about all the same
    assert served.goku("promote").returncode == 0

    def answer(**words: Any) -> dict[str, Any]:
        return call(f"{served.api}/flow_runs/{run}/resume", {"run_input": words})[1]

    for wrong in (
        {"approve": True, "by": "Mallory", "because": "trust me"},
        {"approve": True, "by": "Ada"},
        {"approve": True, "by": "Ada", "because": "fine", "command": "id"},
    ):
        assert answer(**wrong)["status"] == "REJECT", wrong
    assert served.state(run) == "Suspended"
    assert answer(approve=True, by="Ada", because="the clips look right; $(id)")["status"] == "ACCEPT"
    served.reaches(run, "Completed")
    last = ledger.read(served.folder)[-1]
    assert (last.decision, last.version, last.by) == ("promoted", 2, "Ada")
    assert "the clips look right; $(id)" in last.reason
    assert served.told("status", "--services")["waiting"] == []


@pytest.mark.skipif(PROGRAM is None, reason="needs chromium")
def test_a_picture_of_a_run_shows_with_no_bucket_behind_it(served: Served, tmp_path: Path) -> None:
    """The artifact carries its picture: the page asks nobody else for it."""
    picture = tmp_path / "drawn.png"
    write_image(picture, np.full((40, 60, 3), (200, 30, 30), np.uint8))
    program = (
        "from pathlib import Path\nfrom prefect.artifacts import create_markdown_artifact\nfrom flows.scores import pictures\n"
        f"shown = [{{'file': Path({str(picture)!r}), 'prompt': 'a red square', 'right': True, 'reason': ''}}]\n"
        "print(create_markdown_artifact(pictures(shown), key='drawn'))"
    )
    environment = served.environment(PREFECT_API_URL=served.api)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    picture.unlink()
    with Browser(tmp_path / "profile") as browser:
        address = f"{served.api.removesuffix('/api')}/artifacts/artifact/{done.stdout.split()[-1]}"
        browser.call("Page.navigate", url=address)
        shown = browser.wait("[...document.images].find(i => i.naturalWidth === 60 && i.naturalHeight === 40)?.src", 60)
        assert shown.startswith("data:image/png;base64,")
        asked = browser.ask("performance.getEntriesByType('resource').map(one => new URL(one.name).host)")
        assert {host for host in asked if host} <= {f"127.0.0.1:{served.prefect_port}"}


@pytest.mark.slow
def test_a_server_that_was_away_calls_no_living_run_dead_and_misses_the_dead_one(served: Served) -> None:
    old = {one["id"] for one in served.runs("line")}
    served.sleep("dies", 600, "train")
    served.sleep("through", 600)
    runs = served.until(lambda: len(found := {r["id"] for r in served.runs("line")} - old) == 2 and found, "not begun")
    served.until(lambda: all(served.beats(run) for run in runs), "no heartbeat")
    os.killpg(served.services()["prefect"]["pid"], signal.SIGKILL)
    served.sleepers["dies"].kill()
    time.sleep(SILENCE + 10)
    assert served.goku("up", "--timeout", "280").returncode == 0
    crashed = served.until(lambda: [run for run in runs if served.state(run) == "Crashed"], "nobody noticed", 240)
    assert len(crashed) == 1
    (living,) = runs - set(crashed)
    assert served.state(living) == "Running" and served.beats(living) >= 3
    limit = f"{served.api}/v2/concurrency_limits/{limit_name(served.folder)}"
    served.until(lambda: call(limit)[1]["active_slots"] == 0, "the place of the dead one is never free again")
