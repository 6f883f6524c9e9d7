"""From the desk's threads to the event loop: waiting for the end of an order, and its changes as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from goku_core.serve.desk import Desk
from goku_core.serve.orders import Ticket

QUIET_SECONDS = 15.0  # between two signs of life on a stream: proxies end silent ones


async def changes(desk: Desk, id: str) -> AsyncIterator[Ticket | None]:
    """The ticket now and at every change, up to its end; None where nothing changed for a while. Raises `Refused` (404)."""
    loop, told = asyncio.get_running_loop(), asyncio.Queue[Ticket]()

    def changed(ticket: Ticket) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(told.put_nowait, ticket)

    leave = desk.follow(id, changed)
    try:
        ticket = desk.ticket(id)
        yield ticket
        while not ticket.has_ended:
            try:
                ticket = await asyncio.wait_for(told.get(), QUIET_SECONDS)
            except TimeoutError:
                yield None
            else:
                yield ticket
    finally:
        leave()


async def ended(desk: Desk, id: str, seconds: float) -> Ticket:
    """The ticket once it has ended, or as it stands after `seconds`. Raises `Refused` (404)."""
    until = time.monotonic() + seconds

    async def last() -> Ticket:
        async with contextlib.aclosing(changes(desk, id)) as seen:
            async for ticket in seen:
                if ticket is not None and ticket.has_ended:
                    return ticket
        return desk.ticket(id)

    try:
        return await asyncio.wait_for(last(), max(0.0, until - time.monotonic()))
    except TimeoutError:
        return desk.ticket(id)


async def events(desk: Desk, id: str) -> AsyncIterator[str]:
    async with contextlib.aclosing(changes(desk, id)) as seen:
        async for ticket in seen:
            yield ": still there\n\n" if ticket is None else f"event: ticket\ndata: {ticket.model_dump_json()}\n\n"
