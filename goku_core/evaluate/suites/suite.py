"""A suite: the prompts of a benchmark with where they are from, file by file, and under which licence."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from goku_core.evaluate.manifest import Prompt
from goku_core.evaluate.suites import download, grammar
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import write_json

FORMATS = {name: f"goku_core.evaluate.suites.{name}" for name in ("geneval", "vbench", "vbench2", "dpg", "compbench")}
"""benchmark -> module of its format."""
GRAMMAR = "grammar"
SUITE_FILE, STORE = "suite.json", "suite"


@dataclass(frozen=True)
class SuiteFile:
    """One file of a suite. published: its bytes are those of the benchmark's own repository."""

    name: str
    sha256: str
    bytes: int
    published: bool


@dataclass(frozen=True)
class Suite:
    """A suite as it was opened. origin: "grammar", an address, or the folder or file as it was named."""

    benchmark: str
    origin: str
    place: Path
    prompts: Sequence[Prompt]
    files: tuple[SuiteFile, ...]
    licence: str
    notice: str

    def write(self, folder: Path) -> None:
        """Leaves suite.json in an evaluation's folder."""
        facts = {
            "suite": self.benchmark,
            "origin": self.origin,
            "licence": self.licence,
            "notice": self.notice,
            "prompts": len(self.prompts),
            "files": [asdict(one) for one in self.files],
        }
        write_json(folder / SUITE_FILE, facts)


def format_named(benchmark: str) -> ModuleType:
    """The module of a benchmark's format. Raises GokuError where prompts of that name have none."""
    if benchmark not in FORMATS:
        raise GokuError(f"there is no prompt suite {benchmark!r}. Known: {', '.join(sorted(FORMATS))}")
    return importlib.import_module(FORMATS[benchmark])


def open_suite(benchmark: str, where: str, folder: Path) -> Suite:
    """The suite of a benchmark from a folder, a file, an https address, or "grammar".

    What is downloaded or made by the grammar is kept below `folder` (an evaluation's). An address that was fetched into it
    before is not asked again while its files have their digests.
    Raises GokuError saying what is missing, or file and line of what is wrong.
    """
    module = format_named(benchmark)
    licence, notice = module.LICENCE, module.NOTICE
    if where == GRAMMAR:
        place = grammar.write(benchmark, folder / STORE)
        licence, notice = grammar.LICENCE, grammar.NOTICE
    elif "://" in where:
        place = _fetched_before(where, folder) or download.fetch(where, folder / STORE, module.FILES, module.EXTRA)
    else:
        place = Path(where)
        if not place.exists():
            raise GokuError(
                f"--suite {where}: there is no such folder or file. Name the prompt files of {benchmark} "
                f"({', '.join(module.FILES)}), an https address, or grammar"
            )
    return Suite(benchmark, where, place, module.load(place), _files(module, place), licence, notice)


def read_suite(folder: Path) -> dict[str, object]:
    """suite.json of an evaluation's folder; {} where there is none."""
    place = folder / SUITE_FILE
    return json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}


def spread(prompts: Sequence[Prompt], limit: int | None) -> list[Prompt]:
    """At most `limit` prompts, evenly spread over the suite, so that every task keeps some; numbers stay those of the suite."""
    if limit is None or limit >= len(prompts):
        return list(prompts)
    return [prompts[k * len(prompts) // limit] for k in range(limit)]


def _files(module: ModuleType, place: Path) -> tuple[SuiteFile, ...]:
    if place.is_dir():
        names = [*module.FILES, *module.EXTRA, "LICENSE"]
        texts = sorted(place.glob(f"{module.TEXTS}/*.txt")) if hasattr(module, "TEXTS") else []
        places = [place / name for name in names if (place / name).is_file()] + texts
        return tuple(_file(module, one, one.relative_to(place).as_posix()) for one in places)
    return (_file(module, place, place.name),)


def _file(module: ModuleType, place: Path, name: str) -> SuiteFile:
    data = place.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return SuiteFile(name, digest, len(data), module.PUBLISHED.get(place.name) in (digest, blob))


def _fetched_before(address: str, folder: Path) -> Path | None:
    facts = read_suite(folder)
    if facts.get("origin") != address:
        return None
    for one in facts["files"]:
        place = folder / STORE / one["name"]
        if not place.is_file() or hashlib.sha256(place.read_bytes()).hexdigest() != one["sha256"]:
            return None
    return folder / STORE if address.partition("#")[0].endswith("/") else folder / STORE / facts["files"][0]["name"]
