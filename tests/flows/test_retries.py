"""How often a task is repeated: by the kind of what went wrong, each with a budget of its own."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.states import Completed, Failed

from flows.retries import BUDGETS, MOST, may_be_repeated
from goku_core.pipeline.errors import GokuError, StageFailed


def failed(kind: str) -> Failed:
    return Failed(data=StageFailed("no", retriable=kind != "user", kind=kind))


def repetitions(kinds: list[str]) -> int:
    """Of a task whose attempts fail like this, one after the other."""
    run = SimpleNamespace(id=uuid4())
    for count, kind in enumerate(kinds):
        if not may_be_repeated(None, run, failed(kind)):
            return count
    return len(kinds)


@pytest.mark.parametrize(
    ("kind", "times"), [("infrastructure", 3), ("data", 1), ("numeric", 1), ("unknown", 1), ("user", 0)]
)
def test_each_kind_has_its_own_number(kind: str, times: int) -> None:
    assert repetitions([kind] * 10) == times == BUDGETS[kind]


def test_budgets_are_apart_and_one_that_is_spent_ends_it() -> None:
    mixed = ["infrastructure", "data", "infrastructure", "numeric", "infrastructure", "unknown"]
    assert repetitions([*mixed, "infrastructure"]) == len(mixed) == MOST
    assert repetitions(["infrastructure", "data", "data"]) == 2
    assert repetitions(["infrastructure", "user"]) == 1


def test_what_a_user_must_mend_is_not_repeated_and_strangers_are_told_by_type() -> None:
    run = SimpleNamespace(id=uuid4())
    assert not may_be_repeated(None, run, Failed(data=GokuError("give another value")))
    assert may_be_repeated(None, run, Failed(data=ConnectionError("the server has gone")))
    assert not may_be_repeated(None, run, Completed(data=1))
