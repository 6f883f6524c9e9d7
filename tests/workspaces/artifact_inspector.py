"""Every file of a workspace, opened: is there one that would run code when it is read? `python artifact_inspector.py FOLDER`"""

from __future__ import annotations

import io
import pickletools
import sqlite3
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

FORBIDDEN = {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".bin", ".h5", ".keras"}
# Opcodes with which a pickle calls or imports something; plain containers and numbers are pickles too, and as bad.
RUNS = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1", "EXT2", "EXT4"}
SKIPPED = {".git", ".venv", "__pycache__"}
MOST = 64 << 20  # bytes of a file that are looked at as a pickle


def complaints(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or SKIPPED & set(path.relative_to(folder).parts):
            continue
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in FORBIDDEN:
            yield f"{name}: a kind of file that is unpickled when it is opened"
        with path.open("rb") as file:
            content = file.read(MOST)
        yield from (f"{name}: {said}" for said in of_bytes(content))


def of_bytes(content: bytes, depth: int = 0) -> Iterator[str]:
    """What is wrong with the content of one file, and with those packed in it."""
    if depth > 3:
        return
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                if member.endswith((".pkl", "/version", ".pickle")):
                    yield f"{member} in a zip: a file of torch.save"
                yield from (f"{member}: {said}" for said in of_bytes(archive.read(member), depth + 1))
    elif content.startswith(b"\x93NUMPY"):
        if b"'descr': '|O'" in content[:256] or b"'O'" in content[:256]:
            yield "an array of objects, which are pickled"
    elif content.startswith(b"SQLite format 3\0"):
        yield from _of_database(content, depth)
    elif content[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for member in tar:
                inner = tar.extractfile(member)
                if inner:
                    yield from (f"{member.name}: {said}" for said in of_bytes(inner.read(), depth + 1))
    elif is_pickle(content):
        yield "a pickle"


def is_pickle(content: bytes) -> bool:
    """Whole, as an interpreter would run it; a text that happens to begin like one is none."""
    if not content or b"." not in content:
        return False
    opcodes = set()
    try:
        for opcode, _, _ in pickletools.genops(content):
            opcodes.add(opcode.name)
    except Exception:  # of many kinds: whatever it is, it is no pickle
        return False
    return bool(opcodes & RUNS) or content[0] == 0x80


def _of_database(content: bytes, depth: int) -> Iterator[str]:
    with sqlite3.connect(":memory:") as database:
        # a database that writes ahead cannot be opened in memory: its header says so in these two bytes
        database.deserialize(content[:18] + b"\1\1" + content[20:])
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, bytes):
                        yield from (f"table {table}: {said}" for said in of_bytes(value, depth + 1))


if __name__ == "__main__":
    found = list(complaints(Path(sys.argv[1])))
    print("\n".join(found) or f"{sys.argv[1]}: nothing that would run when it is read")
    sys.exit(bool(found))
