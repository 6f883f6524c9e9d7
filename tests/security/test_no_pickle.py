"""Nothing that is read is run: neither by our code, nor hidden in what it writes."""

from __future__ import annotations

import io
import os
import pickle
import re
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from artifact_inspector import complaints, is_pickle, of_bytes
from code_rules import offences
from promote_workspace import candidate, promoted
from tiny_line import Params, cells, new_workspace

from goku_core.pipeline.executor import execute

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted(path for part in ("goku_core", "flows", "benchmarks", "infra") for path in (ROOT / part).rglob("*.py"))
# The peer of a comparison has to be what it is; what it writes is read back with weights_only=True and thrown away.
ALLOWED = {"benchmarks/latents.py": {"torch.save writes or reads a pickle"}, "benchmarks/measuring/peer.py": set()}


@pytest.mark.parametrize("file", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_runs_nothing_that_it_reads(file: Path) -> None:
    allowed = ALLOWED.get(file.relative_to(ROOT).as_posix(), set())
    found = [said for said in offences(file.read_text()) if said.split(": ", 1)[1] not in allowed]
    assert not found, found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.loads(b)", "from pickle import load", "import dill", "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)", "torch.save(x, p)", "yaml.load(t)",
        "yaml.load(t, Loader=yaml.Loader)", "yaml.unsafe_load(t)",
        "subprocess.run('ls')", "subprocess.run(f'ls {x}')", "subprocess.run(x, shell=True)", "os.system(x)", "eval(x)", "exec(x)",
        "tar.extractall(p)", "shutil.unpack_archive(p)", "Model.from_pretrained(p, trust_remote_code=True)", "frame.to_pickle(p)",
    ],
)  # fmt: skip
def test_the_rules_see_each_of_them(text: str) -> None:
    assert list(offences(text))


@pytest.mark.parametrize(
    "text",
    ["except pickle.UnpicklingError: raise", "torch.load(p, weights_only=True)", "model.eval()", "yaml.safe_load(t)",
     "subprocess.run([a, b])", "np.load(p, allow_pickle=False)", "re.compile(x)"],
)  # fmt: skip
def test_and_nothing_else(text: str) -> None:
    assert not list(offences(f"try:\n    pass\n{text}" if text.startswith("except") else text))


class Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.getenv, ("HOME",)


def written(make: object) -> bytes:
    stream = io.BytesIO()
    make(stream)  # type: ignore[operator]
    return stream.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    def make(stream: io.BytesIO) -> None:
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(name, content)

    return written(make)


def tarred(content: bytes) -> bytes:
    def make(stream: io.BytesIO) -> None:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            header = tarfile.TarInfo("a.bin")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))

    return written(make)


def test_every_kind_of_pickle_is_seen(tmp_path: Path) -> None:
    made = {f"protocol {n}": pickle.dumps(Runs(), n) for n in range(6)}
    made["plain"] = pickle.dumps({"a": [1, 2.0]})
    made["torch"] = written(lambda stream: torch.save({"a": torch.zeros(2)}, stream))
    made["old torch"] = written(lambda stream: torch.save(torch.zeros(2), stream, _use_new_zipfile_serialization=False))
    made["numpy"] = written(lambda stream: np.save(stream, np.array([Runs()], dtype=object)))
    made["in a zip"] = zipped("x.json", pickle.dumps(Runs()))
    made["in a tar"] = tarred(pickle.dumps(Runs()))
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE t (x BLOB)")
        database.execute("INSERT INTO t VALUES (?)", (pickle.dumps(Runs()),))
        database.commit()
        made["in a database"] = database.serialize()
    for name, content in made.items():
        assert list(of_bytes(content)) or is_pickle(content[: content.find(b".") + 1]), name
        (tmp_path / f"{name}.dat").write_bytes(content)
    assert {said.split(".dat")[0] for said in complaints(tmp_path)} >= set(made) - {"old torch"}
    harmless = [b"", b".", b"{}", b"I1\n.", zipped("a.txt", b"x"), written(lambda s: np.save(s, np.zeros(3)))]
    assert not [one for one in harmless if list(of_bytes(one))]


def test_what_a_line_writes_would_run_nothing(tmp_path: Path) -> None:
    """The whole line is looked at after `make smoke`; here a tiny one, and a promotion with its registry."""
    line, models = new_workspace(tmp_path / "line"), tmp_path / "models"
    for cell in cells(Params()):
        execute(cell, line)
    candidate(models, 1.0, 0.7)
    promoted(models)
    for place in (line, models):
        assert len([path for path in place.rglob("*") if path.is_file()]) > 10
        assert list(complaints(place)) == []


def test_the_smoke_run_is_looked_at() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nsmoke:")[2].partition("\n\n")[0]
    assert re.search(r"python tests/workspaces/artifact_inspector\.py \.", recipe)
