"""Which code made a result: digests of a stage's modules, of the installed packages, and the git commit.

None of it is part of a fingerprint (a refactoring must not repeat work); it is recorded for lineage, and `goku plan`
says when it has changed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "goku_core"
PACKAGE_ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def modules(room: str) -> dict[str, str]:
    """Source files of the package (or module) `room` and of what it imports from goku_core -> SHA-256.

    Found by reading import statements, not by importing: a plan must not load torch.
    """
    waiting = list(_files_of_room(room))
    found: dict[str, str] = {}
    while waiting:
        file = waiting.pop()
        name = _name(file)
        if name in found:
            continue
        source = file.read_bytes()
        found[name] = hashlib.sha256(source).hexdigest()
        waiting.extend(_imported(source))
    return dict(sorted(found.items()))


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names of the source files that differ, were added or went."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


@functools.cache
def pins() -> str:
    """Digest of the names and versions of all installed distributions."""
    names: set[str] = set()
    for folder in {Path(p) for p in sys.path if p.endswith("-packages")}:
        names.update(p.name for p in folder.glob("*.dist-info"))
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def git(root: Path) -> dict[str, str | bool] | None:
    """Commit of the work tree at `root` and whether tracked files differ from it; None outside of git."""
    commit = git_says(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(git_says(root, "status", "--porcelain", "--untracked-files=no"))}


def git_says(root: Path, *arguments: str) -> str | None:
    """What git answers in the folder `root`; None where it refuses, or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _files_of_room(room: str) -> Iterator[Path]:
    if room.split(".")[0] == PACKAGE:
        place = PACKAGE_ROOT.joinpath(*room.split(".")[1:])
        yield from sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        return
    specification = importlib.util.find_spec(room)
    if specification and specification.origin:
        yield Path(specification.origin)


def _imported(source: bytes) -> Iterator[Path]:
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting.extend(node.orelse)  # imports for type checkers alone do not run
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != PACKAGE:
                continue
            place = PACKAGE_ROOT.joinpath(*parts[1:])
            for file in (place / "__init__.py", place.with_suffix(".py")):
                if file.is_file():
                    yield file


def _name(file: Path) -> str:
    if file.is_relative_to(PACKAGE_ROOT):
        return file.relative_to(PACKAGE_ROOT.parent).as_posix()
    return file.name
