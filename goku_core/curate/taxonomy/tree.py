"""The taxonomy as data: `taxonomy.yaml` of this package, or a file of the same form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from goku_core.pipeline.errors import GokuError

OWN = Path(__file__).parent / "taxonomy.yaml"
Origin = Literal["paper", "likely", "ours"]


class _Class(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    origin: Origin = Field(default="ours", alias="from")
    shows: str = ""
    words: list[str] = []
    weak: list[str] = []


class _Primary(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    origin: Origin = Field(default="ours", alias="from")
    classes: dict[str, _Class] = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    primaries: dict[str, _Primary] = Field(min_length=1)


@dataclass(frozen=True)
class SubClass:
    """name is unique in the whole tree; `shows` completes "a photo of ..."."""

    name: str
    primary: str
    origin: Origin
    shows: str
    words: tuple[str, ...]
    weak: tuple[str, ...]


@lru_cache(maxsize=4)
def load(path: Path = OWN) -> tuple[SubClass, ...]:
    """All sub-classes in the order of the file. Raises `GokuError` naming what is wrong with it."""
    try:
        given = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise GokuError(f"curate.taxonomy.file: {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise GokuError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise GokuError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    found = [
        SubClass(name, primary, one.origin, one.shows or name, tuple(one.words), tuple(one.weak))
        for primary, group in given.primaries.items()
        for name, one in group.classes.items()
    ]
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1} | set(names) & set(given.primaries)):
        raise GokuError(f"{path}: {twice[0]!r} names two classes; every name must be one class")
    return tuple(found)
