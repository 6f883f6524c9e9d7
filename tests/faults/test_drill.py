"""The drill itself: faults injected into a real training of two ranks through the stage, as `goku drill` does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from goku_core.cli_drill import run_drill, table


@pytest.mark.slow  # `make drill` injects every fault; test_launcher.py holds what is quick
def test_a_killed_rank_is_survived(tmp_path: Path) -> None:
    (row,) = rows = run_drill(tmp_path, ["kill-one"])
    assert row["outcome"] == "pass", row
    assert 0 <= row["detected"] < 5 and 0 < row["recovered"] < 60 and 0 <= row["lost"] <= 60
    lines = table(rows)
    assert len(lines) == 2 and lines[1].split()[0] == "kill-one" and "pass" in lines[1]


@pytest.mark.slow
def test_every_fault_is_survived(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "goku_core.cli", "drill", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 11 and {row["outcome"] for row in rows} <= {"pass", "left out"}


def test_a_fault_that_does_not_exist_is_named(tmp_path: Path) -> None:
    from goku_core.cli import app

    done = CliRunner().invoke(app, ["drill", "--only", "earthquake"])
    assert "kill-one" in str(done.exception)


def test_the_machine_is_examined_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from goku_core.cli import app

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["drill", "--self-check", "--json"])
    assert done.exit_code == 0, done.output
    assert {finding["what"]: finding["ok"] for finding in json.loads(done.stdout)}["disk"] is True
