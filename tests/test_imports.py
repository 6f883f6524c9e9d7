"""Who may enter which room: the rules of the architecture, read off the import statements of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"collect", "curate", "vae", "precompute", "train", "evaluate", "promote"}
PURE = {"models", "transport", "packing"}
FILES = sorted((ROOT / "goku_core").rglob("*.py"))
# Rooms whose code runs on a GPU machine with only torch, numpy, transformers and safetensors.
ALLOWED_IN_PURE = {
    "models": {"torch", "numpy", "transformers", "safetensors"},
    "transport": {"torch"},
    "packing": {"numpy"},
}
# Extras, imported inside the function that needs them, so that the room can be entered without them.
OPTIONAL_IN_PURE = {
    "models": {"huggingface_hub", "peft", "flash_attn", "diffusers"},
    "transport": set(),
    "packing": set(),
}
OWNERS = {
    "mlflow": ["goku_core/tracking.py", "goku_core/promote/"],
    "boto3": ["goku_core/storage.py"],
    "botocore": ["goku_core/storage.py"],
    "prefect": ["flows/"],
    "dvc": [],
    "ray": ["goku_core/pipeline/pool/"],
}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager", "util", "helper"}


def imports(file: Path, inside_functions: bool = True) -> Iterator[str]:
    """Full names of the modules a file imports, wherever in it, but not those for type checkers alone."""
    waiting: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    package = file.relative_to(ROOT).parent.parts
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def room(file: Path) -> str:
    """``train`` for goku_core/train/loop.py, ``config`` for goku_core/config.py."""
    return file.relative_to(ROOT / "goku_core").parts[0].removesuffix(".py")


def rooms_entered(file: Path) -> set[str]:
    return {parts[1] for parts in (m.split(".") for m in imports(file)) if parts[0] == "goku_core" and len(parts) > 1}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_rooms(file):
    own, entered = room(file), rooms_entered(file)
    assert "flows" not in {m.split(".")[0] for m in imports(file)}, "goku_core never imports flows"
    if own in PURE:
        assert entered <= {own}, f"{own} imports nothing else of goku_core"
        known = set(sys.stdlib_module_names) | {"goku_core", "__future__"} | ALLOWED_IN_PURE[own]
        assert {m.split(".")[0] for m in imports(file, inside_functions=False)} <= known
        assert {m.split(".")[0] for m in imports(file)} <= known | OPTIONAL_IN_PURE[own]
    if own in STAGES:
        assert not entered & (STAGES - {own}), "a stage room never imports another stage room"
    if own == "pipeline":
        assert not entered & STAGES, "the pipeline finds stages by name"


@pytest.mark.parametrize("package", OWNERS)
def test_owners_of_packages(package):
    files = [*FILES, *sorted((ROOT / "flows").rglob("*.py"))]
    users = {name(file) for file in files if any(m.split(".")[0] == package for m in imports(file))}
    assert not {user for user in users if not any(user.startswith(owner) for owner in OWNERS[package])}


def test_no_drawers_for_odds_and_ends():
    parts = {part for file in [*FILES, *(ROOT / "flows").rglob("*.py")] for part in file.with_suffix("").parts}
    assert not parts & FORBIDDEN_NAMES


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_room_is_cheap_to_enter_and_shows_two_things(stage):
    program = (
        f"import sys, goku_core.{stage} as room\n"
        "assert set(room.__all__) == {'Request', 'run'}, room.__all__\n"
        "heavy = {'torch', 'cv2', 'av', 'mlflow', 'prefect', 'transformers', 'great_expectations'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_light():
    program = "import sys, goku_core.cli\nprint(len({'pydantic', 'torch', 'rich.table', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
