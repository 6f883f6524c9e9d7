"""The pages of docs/recover keep their word: each failure is made, then the page's own commands are run, line by line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from promote_workspace import candidate, promoted
from tiny_line import bodies, new_workspace

from goku_core.pipeline.commit import Workspace
from goku_core.train.drill.faults import FAULTS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs/recover").glob("*.md"))
TINY = ROOT / "tests/workspaces/tiny_goku.py"


def commands(page: str) -> list[str]:
    """Lines of a page's shell blocks. `goku run` runs here without its flow, whose server would take 20 s to begin."""
    text = (ROOT / "docs/recover" / page).read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    return [re.sub(r"^goku run\b", "goku run --no-flow", line) for line in lines]


def follow(workspace: Path, page: str, program: list[str], exits: dict[str, int] | None = None) -> dict[str, str]:
    """Run a page's commands; what each printed. exits: where the page expects another end than 0, the last one counting."""
    shim = workspace.parent / "bin"
    shim.mkdir(exist_ok=True)
    goku = shim / "goku"
    goku.write_text("#!/bin/sh\nexec " + " ".join(program) + ' "$@"\n')
    goku.chmod(0o755)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PATH": f"{shim}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path, "COLUMNS": "200"}
    said = {}
    for number, line in enumerate(commands(page)):
        done = subprocess.run(
            ["bash", "-c", line], cwd=workspace, env=environment, capture_output=True, text=True, check=False
        )
        expected = (exits or {}).get(f"{number}: {line}", 0)
        assert done.returncode == expected, f"{number}: {line}\n{done.stdout}\n{done.stderr}"
        said[f"{number}: {line}"] = done.stdout + done.stderr
    return said


def tiny(workspace: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TINY), *words], cwd=workspace, env=os.environ | environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def digests(workspace: Path) -> dict[str, str]:
    with Workspace(workspace) as place:
        return {path: digest for record in place.records() for path, digest in record.output_digests().items()}


def killed(workspace: Path) -> None:
    assert tiny(workspace, "run", "--no-flow", TINY_KILL="before-record:data/joined.txt").returncode < 0


def changed(workspace: Path) -> None:
    assert tiny(workspace, "run", "--no-flow").returncode == 0
    (workspace / "data/joined.txt").unlink()
    (workspace / "models/one.txt").chmod(0o644)
    (workspace / "models/one.txt").unlink()
    (workspace / "models/one.txt").write_text("better\n")


def full(workspace: Path) -> None:
    limited = ["bash", "-c", f"ulimit -f 4; exec {sys.executable} {TINY} run --no-flow"]
    (workspace / "source.txt").write_text("word " * 20_000)  # what is made of it does not fit below 4 kB
    assert subprocess.run(limited, cwd=workspace, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize(
    ("page", "break_it", "exits"),
    [
        ("run-killed.md", killed, {}),
        ("output-changed.md", changed, {}),
        ("disk-full.md", full, {}),
        ("two-drivers.md", killed, {}),
    ],
)
def test_the_same_command_again(
    tmp_path: Path, page: str, break_it: Callable[[Path], None], exits: dict[str, int]
) -> None:
    workspace, unbroken = new_workspace(tmp_path / "w"), new_workspace(tmp_path / "unbroken")
    break_it(workspace)
    shutil.copy(workspace / "source.txt", unbroken / "source.txt")
    assert tiny(unbroken, "run", "--no-flow").returncode == 0
    follow(workspace, page, [sys.executable, str(TINY)], exits)
    assert tiny(workspace, "plan", "--check").returncode == 0
    assert digests(workspace) == digests(unbroken)
    assert {name: (workspace / name).read_bytes() for name in ("data/joined.txt", "models/one.txt")} == {
        name: (unbroken / name).read_bytes() for name in ("data/joined.txt", "models/one.txt")
    }
    finished = [line for line in bodies(workspace) if line == "models/two.txt"]
    assert len(finished) == 1, "finished work was repeated"


@pytest.fixture
def decided(tmp_path: Path) -> Path:
    """Two champions, the second in office, the ledger in git."""
    workspace = tmp_path / "w"
    workspace.mkdir()
    shutil.copy(ROOT / "params.yaml", workspace)
    for value, score in ((1.0, 0.6), (2.0, 0.7)):
        candidate(workspace, value, score)
        promoted(workspace)
    for words in (
        ["init", "-q"],
        ["add", "ledger"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "ledger"],
    ):
        subprocess.run(["git", *words], cwd=workspace, check=True)
    return workspace


REAL = [sys.executable, "-m", "goku_core.cli"]


@pytest.mark.platform
def test_a_damaged_bundle_is_made_again(decided: Path) -> None:
    newest = max((decided / ".goku/bundles").glob("*/t2i/model.safetensors"), key=lambda file: file.stat().st_mtime)
    content = newest.read_bytes()
    newest.chmod(0o644)
    newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = follow(decided, "bundle-damaged.md", REAL, {"0: goku registry verify": 1})
    assert "was changed after the bundle had been made" in said["0: goku registry verify"]
    assert newest.read_bytes() == content
    assert "no faults" in said["2: goku registry verify"]


@pytest.mark.platform
def test_an_edited_ledger_is_refused_until_it_is_restored(decided: Path) -> None:
    entry = decided / "ledger/000001.json"
    entry.chmod(0o644)
    entry.write_text(entry.read_text().replace('"score": 0.6', '"score": 0.9'))
    said = follow(decided, "ledger-edited.md", REAL, {"0: goku registry verify": 2})
    assert "was changed after it had been written" in said["0: goku registry verify"]


@pytest.mark.platform
def test_a_champion_is_withdrawn_in_one_command(decided: Path) -> None:
    said = follow(decided, "bad-champion.md", REAL)
    history = said["1: goku registry history"]
    assert "rolled-back" in history and "colours are off in clips" in history
    shown = subprocess.run([*REAL, "registry", "ls", "--json"], cwd=decided, capture_output=True, text=True, check=True)
    assert {row["version"]: row["parts"] for row in json.loads(shown.stdout)}[1] == ["champion"]


@pytest.mark.platform
def test_a_lost_tracking_database_is_filled_again(decided: Path) -> None:
    (decided / "mlflow.db").write_bytes(b"no database at all")
    follow(decided, "tracking-lost.md", REAL)


def test_every_page_is_in_the_list_and_says_what_a_reader_needs() -> None:
    listed = set(re.findall(r"\(recover/([a-z-]+\.md)\)", (ROOT / "docs/recover.md").read_text()))
    assert listed == {page.name for page in PAGES}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert commands(page.name), f"{page.name} names no command"
        assert "**Do**" in text and "**Lost**" in text, page.name


def test_every_fault_of_the_drill_has_its_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    tried = set(re.findall(r"goku drill --only ([a-z-]+)", text))
    assert tried == set(FAULTS)
