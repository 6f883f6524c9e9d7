"""Flows hold order and retries, nothing else; looking at one costs little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FLOWS = Path(__file__).resolve().parents[2] / "flows"
STAGES = ["collect", "curate", "vae", "precompute", "train", "evaluate", "promote"]
BESIDE = ["tune", "reevaluate", "drill"]
PROGRAM = """
import socket, sys
def refuse(*a, **k): raise AssertionError("a flow contacted the network while being imported")
socket.socket.connect = refuse
from prefect import Flow
for name in sys.argv[1:]:
    module = __import__(f"flows.{name}", fromlist=[name])
    flow = getattr(module, name)
    assert isinstance(flow, Flow) and flow.name == name and flow.description
    flow.parameters.model_dump_json()
import flows.deployments
heavy = {"torch", "cv2", "av", "mlflow", "transformers", "great_expectations"} & set(sys.modules)
assert not heavy, heavy
"""


def test_one_file_per_stage_and_at_most_80_lines():
    files = {file.stem: len(file.read_text().splitlines()) for file in FLOWS.glob("*.py")}
    assert set(STAGES) | {"line"} <= set(files)
    assert max(files.values()) <= 80, files


def test_importing_flows_loads_nothing_heavy_and_contacts_nobody(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *STAGES, "line", *BESIDE], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_its_room_and_its_flow(stage):
    assert (FLOWS / f"{stage}.py").is_file()
    assert (FLOWS.parent / "goku_core" / stage / "__init__.py").is_file()


def test_every_flow_has_a_deployment():
    deployments = yaml.safe_load((FLOWS.parent / "prefect.yaml").read_text())["deployments"]
    assert [d["entrypoint"] for d in deployments] == [f"flows.{name}.{name}" for name in ("line", *STAGES, *BESIDE)]
    pools = {d["entrypoint"].split(".")[1]: d["work_pool"]["name"] for d in deployments}
    assert {name for name, pool in pools.items() if pool == "cpu"} == {"collect", "curate", "promote"}
    assert set(pools.values()) == {"cpu", "gpu"}
    queues = {d["entrypoint"].split(".")[1]: d["work_pool"]["work_queue_name"] for d in deployments}
    assert {name for name, queue in queues.items() if queue == "training"} == {"line", "vae", "train", "tune"}
