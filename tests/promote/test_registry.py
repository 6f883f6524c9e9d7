"""The MLflow mirror, on a real SQLite registry (one database for the module: its first use takes seconds)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from promote_workspace import candidate, promoted

from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, ledger, promotion, registry
from goku_core.promote.request import Request


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(autouse=True)
def own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def aliases(workspace: Path) -> dict[str, str]:
    model = registry._client(workspace).get_registered_model("goku")
    return {role: str(version) for role, version in model.aliases.items()}


def versions(workspace: Path) -> int:
    return len(registry._client(workspace).search_model_versions("name = 'goku'"))


def test_registry_follows_the_ledger(workspace: Path) -> None:
    """Promote, promote again, refuse, roll back, lose the last write: each time the registry follows."""
    candidate(workspace, 1.0, 0.6)
    promoted(workspace)
    promoted(workspace)
    assert aliases(workspace) == {"champion": "1"} and versions(workspace) == 1

    candidate(workspace, 2.0, 0.7)
    promoted(workspace)
    assert aliases(workspace) == {"champion": "2", "previous": "1"}

    candidate(workspace, 3.0, 0.2)
    promoted(workspace)
    assert aliases(workspace) == {"champion": "2", "previous": "1", "challenger": "3"}

    promotion.rollback(workspace, Request(), None, "")
    assert aliases(workspace) == {"champion": "1"}
    assert registry.disagreements(workspace, "goku", "champion") == []
    version = registry._client(workspace).get_model_version_by_alias("goku", "champion")
    assert version.tags["goku.bundle"] == ledger.champion(ledger.read(workspace)).bundle
    assert version.tags["goku.score"] == "0.600000"
    # the score, and what must be known to set it beside another one; the judge is named in the evidence itself
    assert {key: value for key, value in version.tags.items() if key.startswith("evaluate.")} == {
        "evaluate.overall": "0.600000",
        "evaluate.interval": "0.550000 0.650000",
        "evaluate.judge": "contour-0123",
        "evaluate.protocol": "geneval-6",
    }

    # somebody moves the alias past the ledger: noticed, and put right by the next mirror
    registry._client(workspace).set_registered_model_alias("goku", "champion", "3")
    assert "alias champion" in registry.disagreements(workspace, "goku", "champion")[0]
    assert registry.mirror(workspace, "goku", "champion") == "1"
    assert registry.disagreements(workspace, "goku", "champion") == []


def test_two_mirrors_at_once_end_with_the_newest_entry(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow has no compare-and-set: another machine's promotion and its whole mirror come between the reading of the
    ledger and the setting of the alias, so the alias that is set last is the older one. Who set it looks again."""
    candidate(workspace, 8.0, 0.9)
    promoted(workspace)
    before = aliases(workspace)["champion"]
    other: list[str] = []
    real = registry._versions

    def overtaken(client: object, name: str) -> object:
        found = real(client, name)  # type: ignore[arg-type]
        if not other:
            other.append("came between")
            candidate(workspace, 9.0, 0.95)
            with monkeypatch.context() as patch:  # the other machine's lock is not ours
                patch.setattr(registry, "mirror", lambda *given: registry._mirror(*given))
                promoted(workspace)
            assert aliases(workspace)["champion"] != before
            registry._client(workspace).set_registered_model_alias("goku", "champion", before)
        return found

    monkeypatch.setattr(registry, "_versions", overtaken)
    registry.mirror(workspace, "goku", "champion")
    assert aliases(workspace)["champion"] != before and aliases(workspace)["previous"] == before
    assert registry.disagreements(workspace, "goku", "champion") == []


def test_a_ledger_that_was_cut_is_not_mirrored(workspace: Path) -> None:
    """A chain without its last entry is whole in itself; the registry has seen more."""
    last = sorted((workspace / "ledger").glob("0*.json"))[-1]
    kept = last.read_bytes()
    last.unlink()
    assert len(ledger.read(workspace)) == int(last.stem) - 1
    with pytest.raises(GokuError, match="which is not there"):
        registry.mirror(workspace, "goku", "champion")
    assert "not the one the registry saw last" in registry.disagreements(workspace, "goku", "champion")[-1]
    last.write_bytes(kept)
    registry.mirror(workspace, "goku", "champion")
    assert registry.disagreements(workspace, "goku", "champion") == []


def test_made_anew_it_has_the_ledgers_numbers(workspace: Path) -> None:
    """Versions that an earlier release or another place registered give way; the ledger is all it takes."""
    champion = ledger.champion(ledger.read(workspace))
    assert registry.mirror(workspace, "goku", "champion", anew=True) == str(champion.version)
    assert registry.disagreements(workspace, "goku", "champion") == []
    for version in registry._client(workspace).search_model_versions("name = 'goku'"):
        assert str(version.version) == version.tags["goku.version"]


def test_a_version_carries_its_card(workspace: Path) -> None:
    version = registry._client(workspace).get_model_version_by_alias("goku", "champion")
    place = Path(version.source.removeprefix("file://"))
    assert version.description.startswith(f"# Goku, version {version.tags['goku.version']}\n")
    assert (place / "MODEL_CARD.md").is_file() and version.tags["goku.card"]
    weights = "bundle/t2i/model.safetensors"
    kept = bundle.location(workspace, version.tags["goku.bundle"]) / "t2i/model.safetensors"
    assert (place / weights).samefile(kept), "the bundle is not copied for it"


def test_resolving_the_champion_imports_neither_mlflow_nor_torch() -> None:
    code = (
        "import sys; from goku_core.promote import promotion; "
        "sys.exit(', '.join(m for m in ('mlflow', 'torch', 'pandas') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"imported: {done.stderr}"
