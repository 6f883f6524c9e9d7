"""The MLflow mirror, on a real SQLite registry (one database for the module: its first use takes seconds)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from promote_workspace import candidate, promoted

from goku_core.promote import ledger, promotion, registry
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


def test_resolving_the_champion_imports_neither_mlflow_nor_torch() -> None:
    code = (
        "import sys; from goku_core.promote import promotion; "
        "sys.exit(', '.join(m for m in ('mlflow', 'torch', 'pandas') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"imported: {done.stderr}"
