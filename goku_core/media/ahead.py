"""Something that is made while the one before it is used: by a thread of its own, a few steps ahead, in the same order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
PATIENCE = 0.1  # s between two looks whether anybody still wants more


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterable[Item], most: int) -> Iterator[Item]:
    """The items, at most ``most`` of them waiting. An error comes where it would come without the thread.

    Decoders leave the interpreter's lock while they work, so that decoding and looking share two cores. The thread ends with
    the iterator: at its end, and when it is closed.
    """
    waiting: queue.Queue[Item | _End] = queue.Queue(most)
    unwanted = threading.Event()

    def give(item: Item | _End) -> bool:
        while not unwanted.is_set():
            try:
                waiting.put(item, timeout=PATIENCE)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not give(item):
                    return
        except BaseException as caught:  # raised in the thread that asked
            error = caught
        give(_End(error))

    thread = threading.Thread(target=make, daemon=True, name="ahead")
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        unwanted.set()
        thread.join()
