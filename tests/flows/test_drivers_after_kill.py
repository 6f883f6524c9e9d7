"""Killed at a boundary under one driver, taken up by another: same digests, each body no more often than the kill asks."""

from __future__ import annotations

import signal

import pytest
from driven_line import digests, driven, goku, install_in_process, repro, run_flow
from tiny_line import bodies

pytestmark = pytest.mark.platform


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workspace = driven(tmp_path_factory.mktemp("undisturbed") / "w", steps=3)
    assert goku(workspace, "run", "--no-flow").returncode == 0
    return digests(workspace)


@pytest.mark.parametrize(
    ("then", "point", "begun"),
    [("flow", "mid-work", 2), ("flow", "between-outputs", 1), ("dvc", "before-work", 1), ("dvc", "before-record", 2)],
)
def test_another_driver_takes_up_what_was_killed(
    tmp_path, monkeypatch, prefect_server, undisturbed, point, begun, then
):
    workspace = driven(tmp_path / "w", steps=3)
    killed = goku(workspace, "run", "--no-flow", TINY_KILL=f"{point}:data/joined.txt")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if then == "flow":
        install_in_process(monkeypatch)
        run_flow(workspace)
    else:
        repro(workspace)
    assert digests(workspace) == undisturbed
    assert bodies(workspace).count("data/joined.txt") == begun
    assert len(bodies(workspace)) == 4 + begun


def test_killed_under_dvc_taken_up_by_dvc(tmp_path, undisturbed, monkeypatch):
    workspace = driven(tmp_path / "w", steps=3)
    with monkeypatch.context() as patch:
        patch.setenv("TINY_KILL", "between-outputs:data/joined.txt")
        with pytest.raises(AssertionError, match="failed to run"):
            repro(workspace)
    repro(workspace)
    assert digests(workspace) == undisturbed
