"""`goku bench serve` at tiny size: its counts are those of orders, and its ratio that of its rates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawing_workspace import drawing_workspace

from benchmarks import serve

pytestmark = pytest.mark.platform


def test_every_order_is_accounted_for(tmp_path: Path) -> None:
    root = tmp_path / "w"
    root.mkdir()
    drawing_workspace(root)
    serve.main(
        ["--device", "cpu", "--small", "--threads", "1", "--workspace", str(root), "--out", str(tmp_path / "out")]
    )
    found = json.loads(next((tmp_path / "out").glob("serve-*.json")).read_text())
    alone, one, many = found["rows"]
    assert (one["case"], many["case"]) == ("1 client", "4 clients") and one["refused"] == 0
    for row in (one, many):
        assert row["done"] > 0 and (row["errors"], row["lost"], row["seeds_with_two_results"]) == (0, 0, 0), row
        assert 0 < row["drawing_s"] <= row["p50_s"] <= row["p99_s"] <= row["p99_with_refusals_s"] + 1e-9
    for row, ratio in zip((one, many), found["ratios"], strict=True):
        assert ratio["ratio"] == pytest.approx(row["pictures_per_s"] / alone["pictures_per_s"])
    assert str(root) not in json.dumps(found), "no path of the machine in a result"
