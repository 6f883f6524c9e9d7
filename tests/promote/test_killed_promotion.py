"""A promotion that is killed at any boundary, and two at once: what is left is consistent, and a rerun completes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import killed_promotion
import pytest
from killed_promotion import AFTER_THE_LEDGER, BEFORE_THE_LEDGER, IN_THE_MIRROR
from promote_workspace import candidate, promoted

from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, ledger, promotion, registry
from goku_core.promote.request import Request

SCRIPT = Path(killed_promotion.__file__)
ROOT = SCRIPT.parents[2]


def start(workspace: Path, boundary: str, *left_out: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(SCRIPT.parent)])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(workspace), boundary, *left_out],
        env=environment,
        cwd=workspace,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def killed(workspace: Path, boundary: str) -> None:
    (workspace / "go").touch()
    process = start(workspace, boundary)
    _, said = process.communicate(timeout=240)
    assert process.returncode == -9, f"did not die at {boundary!r}: {said[-2000:]}"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "mirror", lambda *_: None)
    candidate(tmp_path, 1.0, 0.6)
    promoted(tmp_path)
    candidate(tmp_path, 2.0, 0.7)
    return tmp_path


def unharmed(workspace: Path) -> None:
    """Whatever was left: the ledger is readable, its champion loads, nothing half-made has a bundle's name."""
    assert promotion.resolve(workspace, "champion")
    for place in (workspace / bundle.STORE).iterdir():
        bundle.verify(place, place.name)


def test_before_the_ledger_the_old_champion_stands(workspace: Path) -> None:
    for boundary in BEFORE_THE_LEDGER:
        killed(workspace, boundary)
        unharmed(workspace)
        assert ledger.champion(ledger.read(workspace)).version == 1, boundary
    finished_digest = promoted(workspace).digest
    assert promotion.resolve(workspace, "champion")[1] == finished_digest
    assert [entry.decision for entry in ledger.read(workspace)] == ["promoted", "promoted"]
    unharmed(workspace)


@pytest.mark.parametrize("boundary", AFTER_THE_LEDGER)
def test_after_the_ledger_the_new_champion_stands(workspace: Path, boundary: str) -> None:
    killed(workspace, boundary)
    unharmed(workspace)
    assert ledger.champion(ledger.read(workspace)).version == 2, "the entry is the decision"
    report = promoted(workspace)
    assert (report.decision, report.version, report.champion) == ("promoted", 2, report.digest)
    assert len(ledger.read(workspace)) == 2, "and it is written once"


def together(workspace: Path, *calls: list[str]) -> list[str]:
    """Promotions as processes that begin at one moment; what each says."""
    running = [start(workspace, "none", *call) for call in calls]
    deadline = time.monotonic() + 120
    while len(list(workspace.glob("ready-*"))) < len(calls):
        assert time.monotonic() < deadline and all(one.poll() is None for one in running)
        time.sleep(0.02)
    (workspace / "go").touch()
    told = [one.communicate(timeout=120) for one in running]
    assert all(one.returncode == 0 for one in running), told
    return [out.strip() for out, _ in told]


def test_two_candidates_at_once_are_judged_one_after_the_other(workspace: Path) -> None:
    """Two bundles of other tasks: each entry is taken against the champion that the other had made."""
    said = together(workspace, ["video_model"], ["image_to_video_model"])
    entries = ledger.read(workspace)
    assert sorted(said) == ["promoted 2", "promoted 3"] and [one.version for one in entries] == [1, 2, 3]
    assert entries[1].against == entries[0].bundle and entries[2].against == entries[1].bundle
    unharmed(workspace)


def test_one_candidate_by_two_at_once_is_decided_once(workspace: Path) -> None:
    """With a scratch folder each, as two machines have: the same bundle, one entry, one answer."""
    other = workspace.with_name("beside")
    shutil.copytree(workspace / "models", other / "models")
    shutil.copytree(workspace / "reports", other / "reports")
    for shared in ("ledger", ".goku/bundles"):
        (other / shared).parent.mkdir(parents=True, exist_ok=True)
        (other / shared).symlink_to(workspace / shared)
    first, second = start(workspace, "none"), start(other, "none")
    deadline = time.monotonic() + 120
    while len([*workspace.glob("ready-*"), *other.glob("ready-*")]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for place in (workspace, other):
        (place / "go").touch()
    said = [one.communicate(timeout=120)[0].strip() for one in (first, second)]
    assert said == ["promoted 2", "promoted 2"]
    assert [entry.decision for entry in ledger.read(workspace)] == ["promoted", "promoted"]
    unharmed(workspace)


def test_approved_and_declined_at_once_is_one_of_both(workspace: Path) -> None:
    gate = {"approver": ["Ada", "Grace"]}
    promoted(workspace, gate=gate)
    request = Request(gate=gate)

    def decide(by: str) -> str:
        decision = promotion.approve if by == "Ada" else promotion.decline
        try:
            return decision(workspace, request, 2, by, "at the same moment").decision
        except GokuError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(decide, ["Ada", "Grace"]))
    assert len(ledger.read(workspace)) == 3
    assert sum("does not wait for approval" in words for words in said) == 1, said


@pytest.mark.platform
def test_killed_in_the_mirror_the_next_call_completes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real registry: whatever write was the last, the ledger says what is right and the next mirror makes it so."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    candidate(tmp_path, 1.0, 0.6)
    promoted(tmp_path)
    for number, boundary in enumerate(IN_THE_MIRROR, start=2):
        candidate(tmp_path, float(number), 0.6 + number / 100)
        killed(tmp_path, boundary)
        assert ledger.champion(ledger.read(tmp_path)).version == number
        assert registry.disagreements(tmp_path, "goku", "champion"), "what is half written is noticed"
        assert promotion.resolve(tmp_path, "champion"), "and the champion loads meanwhile"
        assert promoted(tmp_path).version == number
        assert registry.disagreements(tmp_path, "goku", "champion") == []
    client = registry._client(tmp_path)
    versions = client.search_model_versions("name = 'goku'")
    assert sorted(int(one.version) for one in versions) == [1, 2, 3, 4], "each bundle is registered once"
    assert all(str(one.version) == one.tags["goku.version"] for one in versions)
