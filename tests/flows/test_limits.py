"""One training of a lineage at a time, whoever starts it: on a real server, from two flows of two callers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import limits
from flows.limits import limit_name
from goku_core.services.registration import lineage_name

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import time
from pathlib import Path
from prefect.logging import disable_run_logger
from flows.limits import place_to_train

with disable_run_logger(), place_to_train("train", Path()):
    print("holds", flush=True)
    time.sleep(600)
"""
PROGRAM = """
import sys, time
from pathlib import Path
from prefect import flow
from flows.limits import place_to_train

@flow
def training(stage, place):
    with place_to_train(stage, Path(place)):
        began = time.monotonic()
        time.sleep(4)
        print(began, time.monotonic())

training(*sys.argv[1:])
"""


def git(folder: Path, *words: str) -> None:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, env=os.environ | who)


def repository(folder: Path, origin: str | None = None) -> Path:
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "params.yaml").write_text("seed: 0\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    if origin:
        git(folder, "remote", "add", "origin", origin)
    return folder


def test_branches_and_folders_have_lineages_of_their_own_and_clones_share_theirs(tmp_path: Path) -> None:
    one = repository(tmp_path / "one", "https://me:secret@host/team/models.git")
    two = repository(tmp_path / "two", "https://host/team/models.git")
    assert lineage_name(one) == lineage_name(two)
    assert "secret" not in lineage_name(one) and lineage_name(one).startswith("main-")
    (one / "sub").mkdir()
    assert lineage_name(one / "sub") != lineage_name(one)
    git(two, "checkout", "-qb", "tune/faster")
    assert lineage_name(two) != lineage_name(one) and lineage_name(two).startswith("tune-faster-")
    plain = [tmp_path / "three", tmp_path / "four"]
    assert len({lineage_name(place) for place in plain}) == 2


def test_a_place_without_git_can_be_told_its_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOKU_LINEAGE", "main")
    assert limit_name(tmp_path) == "training-main"


def overlap(asked: list[tuple[str, Path]]) -> bool:
    """Two flows in processes of their own, as two people start them: were both at work at one time?"""
    environment = os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    begun = [
        subprocess.Popen([*command, stage, str(place)], env=environment, stdout=subprocess.PIPE, text=True)
        for stage, place in asked
    ]
    spans = sorted(tuple(map(float, process.communicate(timeout=120)[0].split()[-2:])) for process in begun)
    return spans[1][0] < spans[0][1]


@pytest.mark.platform
def test_the_same_lineage_waits_and_another_does_not(prefect_server: None, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert not overlap([("train", here), ("vae", here)])
    assert overlap([("train", here), ("train", there)])
    with get_client(sync_client=True) as client:
        for place in (here, there):
            assert client.read_global_concurrency_limit_by_name(limit_name(place)).active_slots == 0


def test_a_killed_run_without_a_server_gives_its_place_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What such a run counts in a database nobody would ever take back: its server ends with it."""
    monkeypatch.setattr(limits, "get_client", lambda **_: pytest.fail("asks a server that is not there"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path / "prefect")}
    command = [sys.executable, "-c", HOLDER]
    holder = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    obtained = threading.Event()

    def wait_for_it() -> None:
        with (
            temporary_settings(restore_defaults={PREFECT_API_URL}),
            disable_run_logger(),
            limits.place_to_train("vae", tmp_path),
        ):
            obtained.set()

    waiting = threading.Thread(target=wait_for_it, daemon=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "holds\n"
        waiting.start()
        assert not obtained.wait(1), "two trainings of one lineage at once"
        holder.send_signal(signal.SIGKILL)
        assert obtained.wait(10), "the place of the killed run is never free again"
    finally:
        holder.kill()
        holder.communicate()
        waiting.join(5)
