"""Made by another thread and still the same: order, errors, an end to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from goku_core.media.ahead import ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "ahead"]


@pytest.mark.parametrize("most", [1, 3, 100])
def test_same_items_in_the_same_order(most: int) -> None:
    assert list(ahead(range(50), most)) == list(range(50))
    assert list(ahead([], most)) == [] and threads() == []


def test_no_more_than_asked_for_lie_ready() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    found = ahead(items(), 3)
    assert next(found) == 0
    time.sleep(0.3)
    assert len(made) <= 5, "one used, three waiting, one in hand"
    found.close()
    assert threads() == [] and len(made) <= 6


def test_an_error_comes_behind_what_came_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("broken off")

    found = ahead(items(), 8)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="broken off"):
        next(found)
    assert threads() == []
