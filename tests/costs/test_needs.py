"""What a plan says that work will need, against records and prices that are known by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_line
from driven_line import goku
from tiny_line import new_workspace, set_params

from goku_core.config import load_params
from goku_core.costs import PlanRequest, machine
from goku_core.costs.expected import Foreseen, Need, needs, over_budget, totals
from goku_core.costs.spent import of, together
from goku_core.pipeline.commit import Record
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import execute
from goku_core.pipeline.line import cells
from goku_core.pipeline.plan import plan

ROOT = Path(__file__).resolve().parents[2]
PRICES = PlanRequest(prices={"currency": "EUR", "gpu_hour": {"h100": 2.5}, "cpu_hour": 0.36, "storage_gb_month": 0.02})


def no_forecast(phase: str, gpus: int, kind: str) -> Foreseen:
    raise AssertionError("nobody asked for GPUs")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    workspace = new_workspace(tmp_path_factory.mktemp("costs") / "w")
    for cell in tiny_line.cells(tiny_line.Params()):
        execute(cell, workspace)
    return workspace


def priced(workspace, params, table=PRICES, forecaster=no_forecast):
    line = cells(params) if not isinstance(params, tiny_line.Params) else tiny_line.cells(params)
    entries = plan(line, workspace)
    found = needs(entries, line, workspace, table, forecaster)
    return {e.cell: need for e, need in zip(entries, found, strict=True)}, totals(entries, found, workspace, table)


def test_done_work_needs_nothing(done):
    found, total = priced(done, tiny_line.Params())
    assert {need.seconds for need in found.values()} == {0.0}
    assert (total.seconds, total.money, total.bytes, total.unknown) == (0.0, 0.0, 0, ())


def test_work_takes_what_its_last_record_took(done):
    file = next((done / ".goku/records/close").glob("*.json"))
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"seconds": 1800.0}))
    found, total = priced(done, tiny_line.Params(close="other"))
    need = found["close"]
    assert (need.seconds, need.gpus, need.gpu_hours, need.basis) == (1800.0, 0, 0.0, "last record")
    assert need.money == total.money == pytest.approx(0.18)  # half an hour of a machine
    assert need.bytes == total.bytes == (done / "reports/end.txt").stat().st_size
    assert total.storage_month == pytest.approx(need.bytes / 1e9 * 0.02)


def test_training_is_in_proportion_to_its_steps_and_gpus_have_their_price(tmp_path):
    """The nano phase with a record of one attempt by hand, planned with twice the steps, on CPU and on eight GPUs."""
    params = load_params(ROOT / "params/nano.yaml")
    (cell,) = (one for one in cells(params) if one.name == "train@joint_low")
    steps = params.train.phases["joint_low"].steps
    value = {"cell": cell.name, "stage": "train", "fingerprint": "ab" * 32, "finished": "2026", "seconds": 100.0}
    value |= {"request": cell.request_json(), "revision": cell.revision, "seed": 0, "inputs": {}, "report": {}}
    outputs = {"models/joint_low": {"digest": "", "folder": True, "files": {"a": "b"}, "sizes": {"a": 1000}}}
    file = tmp_path / ".goku/records/train" / f"{'ab' * 32}.json"
    file.parent.mkdir(parents=True)
    value |= {"outputs": outputs, "lineage": "", "code": {}}
    file.write_text(json.dumps(value))
    params.train.phases["joint_low"].steps = 2 * steps
    need = priced(tmp_path, params)[0]["train@joint_low"]
    assert need.seconds == pytest.approx(200.0) and "x 2 (steps, ranks)" in need.basis
    keep = params.train.checkpoint.keep
    assert need.bytes == 1000 * (keep + 2)
    params.train.parallel.device, params.train.parallel.ranks_per_node = "cuda", 8
    on_gpus = {"machine": {"gpus": 8, "gpu": "NVIDIA H100"}, "arrangement": {"parallel.ranks_per_node": 4}}
    file.write_text(json.dumps(value | on_gpus))
    found, _ = priced(tmp_path, params, forecaster=lambda phase, gpus, kind: Foreseen(3600.0 * gpus, 5e9))
    need = found["train@joint_low"]  # twice the steps on twice the ranks
    assert (need.seconds, need.gpus, need.gpu) == (pytest.approx(100.0), 8, "h100")
    assert need.money == pytest.approx(100 * 8 / 3600 * 2.5)
    of_a100 = value | on_gpus | {"machine": {"gpus": 8, "gpu": "NVIDIA A100-SXM4-80GB"}}
    file.write_text(json.dumps(of_a100))  # seconds of an A100 have its price, here none
    need = priced(tmp_path, params, forecaster=lambda phase, gpus, kind: Foreseen(3600.0 * gpus, 5e9))[0][cell.name]
    assert (need.seconds, need.gpu, need.money) == (pytest.approx(100.0), "a100", None)
    never = found["train@joint_mid"]  # no record: by the forecast, 8 h on 8 GPUs
    assert (never.gpu_hours, never.money) == (pytest.approx(64.0), pytest.approx(160.0))
    assert never.bytes == 5e9 * (keep + 2) and "forecast" in never.basis
    file.write_text(json.dumps(value))  # the record of a CPU says nothing of GPUs
    found, _ = priced(tmp_path, params, forecaster=lambda phase, gpus, kind: Foreseen(3600.0 * gpus, 5e9))
    assert "forecast" in found["train@joint_low"].basis


@pytest.mark.parametrize(("here", "kind"), [("NVIDIA A100-SXM4-80GB", "a100"), (None, "h100"), ("NVIDIA T4", None)])
def test_the_kind_that_is_forecast_is_the_kind_that_is_priced(tmp_path, monkeypatch, here, kind):
    """That of this machine, else the one to plan with; of a kind that nobody knows neither hours nor money are named."""
    monkeypatch.setattr(machine, "gpus", lambda: [here] * 8 if here else [])
    params = load_params(ROOT / "params/nano.yaml")
    params.train.parallel.device, params.train.parallel.ranks_per_node = "cuda", 8
    table = PlanRequest(gpu="h100", prices={"gpu_hour": {"a100": 1.0, "h100": 2.5}})
    hours = {"a100": 10.0, "h100": 4.0}
    found, total = priced(tmp_path, params, table, lambda phase, gpus, kind: Foreseen(3600 * hours[kind], 5e9))
    need = found["train@joint_low"]
    assert need.gpu == kind
    if kind:
        assert need.money == pytest.approx(hours[kind] * 8 * table.prices.gpu_hour[kind])
    else:
        assert (need.seconds, need.money) == (None, None) and "nothing is known of NVIDIA T4" in need.basis
        assert "train@joint_low" in total.unknown


def test_what_nobody_knows_is_not_called_nothing(tmp_path):
    entries_needs, total = priced(new_workspace(tmp_path / "w"), tiny_line.Params())
    assert {need.seconds for need in entries_needs.values()} == {None}
    assert len(total.unknown) == 5
    assert "not known" in over_budget("1e9", total)


def test_a_disk_without_room(done):
    huge = Need(1.0, 0, None, 0.0, 0.0, 10**18, "by hand")
    entries = plan(tiny_line.cells(tiny_line.Params()), done)[:1]
    assert not totals(entries, [huge], done, PRICES).fits


def test_exit_codes(tmp_path):
    workspace = new_workspace(tmp_path / "w")
    assert goku(workspace, "plan", "--check", "--budget", "1000").returncode == 3  # nobody knows
    for cell in tiny_line.cells(tiny_line.Params()):
        execute(cell, workspace)
    assert goku(workspace, "plan", "--check", "--budget", "0").returncode == 0
    set_params(workspace, close="other")
    assert goku(workspace, "plan", "--check", "--budget", "1000").returncode == 1
    over = goku(workspace, "plan", "--check", "--budget", "0", "--json")
    assert over.returncode == 3
    told = json.loads(over.stdout)
    assert "more than 0.00" in told["over_budget"]
    assert told["totals"]["money"] == pytest.approx(sum(cell["expected"]["money"] for cell in told["cells"]))
    file = next((workspace / ".goku/records/close").glob("*.json"))
    record = json.loads(file.read_text())
    record["outputs"]["reports/end.txt"]["sizes"] = {"": 10**18}
    file.write_text(json.dumps(record))
    full = goku(workspace, "plan", "--check")
    assert full.returncode == 3 and "no room" in full.stdout


def test_budgets():
    one = totals([], [], ROOT, PRICES)
    assert over_budget("0", one) is None and over_budget("0h", one) is None
    with pytest.raises(GokuError, match="--budget much"):
        over_budget("much", one)


def test_gpus_are_told_by_the_driver(tmp_path):
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0/information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 1\n")
    assert machine.gpus(tmp_path) == ["NVIDIA H100 80GB HBM3"]
    assert machine.kind("NVIDIA H100 80GB HBM3") == "h100" and machine.kind("NVIDIA T4") is None
    assert machine.gpus(tmp_path / "none") == []


def test_what_was_spent():
    def record(cell, gpu, gpus, report=None):
        value = {"cell": cell, "stage": cell.partition("@")[0], "seconds": 7200.0, "report": report or {}}
        return Record(value | {"request": {}, "machine": {"gpu": gpu, "gpus": gpus}})

    trained = of(record("train@a", "NVIDIA H100", 8, {"goodput": {"rank_hours": 16.0}}), PRICES)
    assert (trained.gpu_hours, trained.money) == (16.0, 40.0)
    encoded = of(record("precompute", "NVIDIA H100", 8), PRICES)
    assert (encoded.gpu_hours, encoded.money) == (16.0, 40.0)
    judged = of(record("curate", None, 0), PRICES)
    assert (judged.gpu_hours, judged.money) == (0.0, pytest.approx(0.72))
    both = together("all", [trained, judged])
    assert both.money == pytest.approx(40.72) and both.machine_hours == 4.0
    assert together("all", [trained, of(record("train@b", "NVIDIA T4", 1), PRICES)]).money is None


@pytest.mark.slow
def test_a_preset_for_a_cluster_has_the_figures_of_the_forecast(tmp_path):
    """`goku plan` of a preset, nothing done, names the GPU-hours that `goku plan train --gpus N` names."""
    import os
    import subprocess
    import sys

    (tmp_path / "params.yaml").write_text((ROOT / "params/goku-2b.yaml").read_text())
    command = [sys.executable, "-m", "goku_core.cli", "plan", "train"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    params = load_params(tmp_path / "params.yaml")
    gpus = params.train.parallel.nodes * params.train.parallel.ranks_per_node
    said = subprocess.run([*command, "--json"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    asked = subprocess.run([*command, "--gpus", str(gpus), "--gpu", params.plan.gpu, "--json"], cwd=tmp_path, env=env,
                           capture_output=True, text=True, check=False)  # fmt: skip
    alone = {f"train@{one['phase']}": one for one in json.loads(asked.stdout)}
    for cell in json.loads(said.stdout)["cells"]:
        if not alone[cell["cell"]]["obstacle"]:
            assert cell["expected"]["gpu_hours"] == pytest.approx(alone[cell["cell"]]["gpu_hours"])
            assert cell["expected"]["money"] == pytest.approx(alone[cell["cell"]]["cost"])
