"""What the finished line has cost, added up by hand."""

from __future__ import annotations

from pathlib import Path

from goku_core.costs import PlanRequest
from goku_core.pipeline.commit import Record
from goku_core.report.cost import sentence
from goku_core.report.facts import Facts, Phase, Piece

PRICES = PlanRequest(prices={"currency": "EUR", "gpu_hour": {"h100": 2.0}, "cpu_hour": 0.5})
H100 = {"gpus": 8, "gpu": "NVIDIA H100 80GB HBM3"}


def piece(cell, hours, rank_hours=None, machine=None, current=True):
    report = {} if rank_hours is None else {"goodput": {"rank_hours": rank_hours}}
    value = {"cell": cell, "stage": cell.partition("@")[0], "seconds": hours * 3600, "report": report, "request": {}}
    return Piece(cell, Record(value | ({"machine": machine} if machine else {})), current)


def phase(name, resolution):
    return Phase(name, Path(name), [], [], {}, {"resolution": resolution})


def test_per_stage_per_resolution_and_per_point_of_score():
    pieces = [piece("curate", 4.0), piece("train@one", 1.0, 8.0, H100), piece("train@two", 2.0, 16.0, H100)]
    pieces.append(piece("train@old", 9.0, 72.0, H100, current=False))  # of another version: not in the workspace
    facts = Facts(Path(), pieces=pieces, phases=[phase("one", "low"), phase("two", "high")])
    facts.evaluation = {"overall": {"score": 0.60, "chance": 0.10}}
    told = sentence(facts, PRICES)
    assert told.startswith("50.00 EUR, 24.00 GPU-hours; curate 2.00 EUR, train 48.00 EUR; ")
    assert "training by resolution: low 16.00 EUR, high 32.00 EUR; " in told
    assert told.endswith("1.0000 EUR for each of 50.0 points of score above chance")


def test_a_gpu_without_a_price_has_hours_and_no_money():
    facts = Facts(Path(), pieces=[piece("train@one", 1.0, 2.0, {"gpus": 2, "gpu": "NVIDIA T4"})])
    assert sentence(facts, PRICES).startswith("2.00 GPU-hours (no price for this GPU), 2.00 GPU-hours")


def test_nothing_done():
    assert sentence(Facts(Path()), PRICES) == "nothing has been done yet"
