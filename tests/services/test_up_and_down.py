"""`goku up`, a run of a deployment, a killed server, `goku down`: in this order, on one set of real servers."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from served_workspace import ROOT, Begun, call

from goku_core.services import processes


def ids(begun: Begun) -> dict[str, int]:
    return {name: one["pid"] for name, one in begun.services().items()}


def listening_at(port: int) -> set[str]:
    """Addresses on which somebody listens, from the kernel's own table."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[1].split(":")[1] == f"{port:04X}"}


def test_of_two_at_once_one_starts_and_the_other_finds_it_up(begun: Begun) -> None:
    first, second = sorted(begun.answers, key=lambda one: one["registered"] is None)
    assert first["services"] == dict.fromkeys(("prefect", "mlflow", "worker"), "started")
    assert second["services"] == dict.fromkeys(("prefect", "mlflow", "worker"), "running")
    assert (first["registered"], second["registered"]) == (11, None)
    assert {one["state"] for one in begun.services().values()} == {"healthy"}
    assert 100e6 < first["memory"] < 2e9
    print(f"up in {first['seconds']} s, {first['memory'] / 1e6:.0f} MB")
    assert first["seconds"] < 60, "more than a minute until all is healthy"


def test_nobody_outside_of_this_machine_reaches_them(begun: Begun) -> None:
    for port in (begun.prefect_port, begun.mlflow_port):
        assert listening_at(port) == {"0100007F"}  # 127.0.0.1, lowest byte first


def test_no_engine_reports_home_and_no_job_runner_runs(begun: Begun) -> None:
    assert call(f"{begun.api}/admin/settings")[1]["server"]["analytics_enabled"] is False
    for pid in ids(begun).values():
        variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        assert {"DO_NOT_TRACK=1", "MLFLOW_DISABLE_TELEMETRY=true", "DVC_NO_ANALYTICS=1"} <= set(variables)
        assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false" in variables
    commands = [Path(f"/proc/{one.pid}/cmdline").read_bytes() for one in processes.marked(begun.folder)]
    assert not [command for command in commands if b"huey" in command]


def test_a_second_up_changes_nothing_and_says_so(begun: Begun) -> None:
    before = ids(begun)
    again = begun.goku("up")
    assert again.returncode == 0 and "nothing changed" in again.stdout
    assert ids(begun) == before
    other = begun.goku("up", "--host", "localhost")
    assert other.returncode == 2 and "goku down" in other.stderr


def test_deployments_are_those_of_prefect_yaml(begun: Begun) -> None:
    _, found = call(f"{begun.api}/deployments/filter", {})
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {one["entrypoint"] for one in found} == {one["entrypoint"] for one in declared}
    for one in found:
        assert one["enforce_parameter_schema"] and one["global_concurrency_limit"]["limit"] == 1
        assert "workspace" not in one["parameter_openapi_schema"]["properties"]
        assert any(tag.startswith("commit:") for tag in one["tags"])
        assert one["job_variables"]["working_dir"] == str(begun.folder)
    (train,) = [one for one in found if one["entrypoint"] == "flows.train.train"]
    phases = train["parameter_openapi_schema"]["properties"]["phases"]
    assert phases["items"]["enum"] == list(
        yaml.safe_load((begun.folder / "params.yaml").read_text())["train"]["phases"]
    )
    declared_pools = {one["entrypoint"]: one["work_pool"]["name"] for one in declared}
    assert {one["entrypoint"]: one["work_pool_name"] for one in found} == declared_pools
    for pool, limits in (("cpu", {"default": None}), ("gpu", {"default": None, "training": 1})):
        _, queues = call(f"{begun.api}/work_pools/{pool}/queues/filter", {})
        assert {one["name"]: one["concurrency_limit"] for one in queues} == limits


@pytest.mark.parametrize(
    ("flow", "parameters", "says"),
    [
        ("line", {"cells": ["train@nothing"]}, "is not one of"),
        ("line", {"strict": "perhaps"}, "strict"),
        ("collect", {"workspace": "/etc"}, "workspace"),
        ("tune", {"name": "../elsewhere"}, "does not match"),
        ("tune", {"trials": 0}, "minimum"),
        ("train", {"phases": ["$(id)"]}, "is not one of"),
    ],
)
def test_a_bad_value_is_refused_before_a_run_starts(
    begun: Begun, flow: str, parameters: dict[str, object], says: str
) -> None:
    _, deployment = call(f"{begun.api}/deployments/name/{flow}/local")
    status, answer = call(f"{begun.api}/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    assert status == 409 and says in answer["detail"]


def test_a_deployment_runs_on_the_worker(begun: Begun) -> None:
    ended = begun.run("collect/local", {})
    assert ended["state_name"] == "Completed"
    (collected, *_) = begun.told("status")
    assert (collected["cell"], collected["state"], collected["driver"]) == ("collect", "done", "prefect")
    mlflow = f"http://127.0.0.1:{begun.mlflow_port}/api/2.0/mlflow"
    _, experiment = call(f"{mlflow}/experiments/get-by-name?experiment_name=goku")
    asked = {"experiment_ids": [experiment["experiment"]["experiment_id"]]}
    (shown,) = call(f"{mlflow}/runs/search", asked)[1]["runs"]
    assert (shown["info"]["run_name"], shown["info"]["status"]) == ("collect", "FINISHED")
    shown = begun.told("status", "--services")
    assert [(run["id"], run["state"]) for run in shown["runs"]] == [(ended["id"], "Completed")]
    assert set(shown["queue"].values()) == {0}
    assert shown["disk"]["free"] > 0 and shown["disk"]["prefect"] > 100_000 and shown["disk"]["store"] > 10_000


@pytest.mark.slow
def test_runs_that_train_wait_for_each_other(begun: Begun) -> None:
    """Two of one deployment, and one of another in the same queue: three, one after the other."""
    with ThreadPoolExecutor(3) as callers:
        asked = [("line/local", {"cells": ["collect"]})] * 2 + [("vae/local", {})]
        ended = list(callers.map(lambda one: begun.run(*one, seconds=240), asked))
    assert [run["state_name"] for run in ended] == ["Completed", "Completed", "Failed"]  # vae: nothing is curated yet
    spans = sorted((run["start_time"], run["end_time"]) for run in ended)
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans)), spans


def test_a_killed_one_is_started_again_and_the_others_are_left_alone(begun: Begun) -> None:
    before = ids(begun)
    os.killpg(before["worker"], signal.SIGKILL)
    os.kill(before["mlflow"], signal.SIGKILL)  # its child lives on and holds the port
    assert listening_at(begun.mlflow_port)
    assert processes.wait(lambda: begun.services()["mlflow"]["state"] == "ended", 10)
    interrupted = subprocess.Popen(
        begun.command("up"), cwd=begun.folder, env=begun.environment(), stderr=subprocess.PIPE, text=True
    )
    assert interrupted.stderr is not None and "MLflow's server had ended" in interrupted.stderr.readline()
    assert processes.wait(lambda: begun.services()["mlflow"]["state"] != "ended", 20)
    interrupted.kill()
    interrupted.wait()
    again = begun.told("up")
    assert again["services"]["prefect"] == again["services"]["mlflow"] == "running"
    after = ids(begun)
    assert after["prefect"] == before["prefect"] and after["worker"] != before["worker"]
    mlflow = [one for one in processes.marked(begun.folder) if os.getpgid(one.pid) == before["mlflow"]]
    assert mlflow == [], "the killed server has left a process behind"
    assert {one["state"] for one in begun.services().values()} == {"healthy"}


def test_down_ends_everything_and_keeps_the_data(begun: Begun) -> None:
    assert len(processes.marked(begun.folder)) >= 4
    done = begun.told("down")
    assert list(done["services"]) == ["worker", "mlflow", "prefect"]  # a slow one may have had to be killed
    assert processes.marked(begun.folder) == []
    for port in (begun.prefect_port, begun.mlflow_port):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    with (begun.folder / ".goku/services/lock").open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with sqlite3.connect(begun.folder / ".goku/prefect/prefect.db") as database:
        states = database.execute("SELECT state_name FROM flow_run ORDER BY created").fetchall()
    assert states[0] == ("Completed",) and ("Running",) not in states
    assert "nothing was up here" in begun.goku("down").stdout


@pytest.mark.slow
def test_up_again_has_the_old_runs_and_down_tells_the_running_ones(begun: Begun) -> None:
    """Behind the test of down: the servers come up a second time, on the databases they left."""
    params = yaml.safe_load((begun.folder / "params.yaml").read_text())
    params["collect"]["sample"]["videos"] = 60
    (begun.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert begun.told("up")["services"]["prefect"] == "started"
    os.killpg(ids(begun)["mlflow"], signal.SIGSTOP)
    again = begun.goku("up")
    assert again.returncode == 0 and "ran and did not answer: did not stop within 10 s, killed" in again.stderr
    assert {one["state"] for one in begun.services().values()} == {"healthy"}
    assert "Completed" in [run["state"] for run in begun.told("status", "--services")["runs"]]
    _, deployment = call(f"{begun.api}/deployments/name/collect/local")
    assert call(f"{begun.api}/deployments/{deployment['id']}/create_flow_run", {"parameters": {}})[0] == 201
    deadline = time.monotonic() + 60
    while not list((begun.folder / ".goku/staging").rglob("*.mp4")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    done = begun.told("down", "--grace", "20")
    assert len(done["runs"]) == 1 and processes.marked(begun.folder) == []
    with sqlite3.connect(begun.folder / ".goku/prefect/prefect.db") as database:
        found = database.execute("SELECT state_name FROM flow_run ORDER BY created").fetchall()
    assert found[0] == ("Completed",) and found[-1] == ("Cancelled",)
