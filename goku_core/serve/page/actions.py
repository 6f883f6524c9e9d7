"""What the page does: draw, compare, cancel, take a first frame. Each action answers with the parts of the page that change."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from pydantic import ValidationError

from goku_core.pipeline.errors import GokuError
from goku_core.serve.archive import log
from goku_core.serve.desk import Desk
from goku_core.serve.orders import ModelCard, Order, Refused, Ticket
from goku_core.serve.page import choices, figures
from goku_core.serve.page.figures import Drawing
from goku_core.serve.page.provenance import origins, score

LOOK_S = 0.2  # between two looks at a ticket
REMEMBERED = 12  # drawings of one visit
Parts = tuple[Any, ...]  # in the order of `Actions.parts`
LEFT_ALONE = gr.skip()


@dataclass(frozen=True)
class Form:
    """What stands in the form, as Gradio hands it over: anybody can send anything, so `order` checks it."""

    prompt: Any
    kind: Any
    size: Any
    frames: Any
    seed: Any
    steps: Any
    guidance: Any
    model: Any
    first_frame: Any

    def order(self, model: str | None = None) -> Order:
        """Raises `Refused` with one sentence about what does not fit."""
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise Refused(422, "prompt", "Write what to draw first.")
        if self.kind == "i2v" and not self.first_frame:
            raise Refused(422, "first-frame", "Drop a first frame first, or choose Clip.")
        if not isinstance(self.seed, int):
            raise Refused(422, "seed", "Give a seed: a whole number from 0 on.")
        try:
            height, width = choices.parsed(self.size)
            given = {"prompt": self.prompt.strip(), "task": self.kind, "height": height, "width": width}
            given |= {"seed": self.seed, "steps": int(self.steps), "guidance": float(self.guidance)}
            given["model"] = model or self.model
            if self.kind != "t2i":
                given["frames"] = int(self.frames)
            if self.kind == "i2v":
                given["first_frame"] = self.first_frame
            return Order.model_validate(given)
        except ValidationError as error:
            fault = error.errors()[0]
            field = ".".join(str(part) for part in fault["loc"])
            message = fault["msg"].removeprefix("Value error, ")
            raise Refused(422, "order", f"{field}: {message}." if field else f"{message}.") from error
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise Refused(422, "order", "Size, frames, steps and guidance must be numbers.") from error


class Actions:
    """The actions of one page over a desk.

    parts  what draw, compare and cancel change: status, left, right, tickets under way, drawings of this visit, their
           HTML, and the four buttons (draw, another, compare, cancel)
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def draw(
        self, prompt: Any, kind: Any, size: Any, frames: Any, seed: Any, steps: Any, guidance: Any, model: Any,
        first_frame: Any, past: Any, request: gr.Request,
    ) -> AsyncIterator[Parts]:  # fmt: skip
        """The form's order. past: the drawings of this visit."""
        form = Form(prompt, kind, size, frames, seed, steps, guidance, model, first_frame)
        try:
            orders = [form.order()]
        except Refused as refusal:
            yield _refused(refusal)
            return
        async for parts in self._drawn(orders, past, request):
            yield parts

    async def compare(
        self, prompt: Any, kind: Any, size: Any, frames: Any, seed: Any, steps: Any, guidance: Any, model: Any,
        first_frame: Any, past: Any, request: gr.Request,
    ) -> AsyncIterator[Parts]:  # fmt: skip
        """The form's order twice: once with the champion, once with the challenger. Same seed, same everything else."""
        form = Form(prompt, kind, size, frames, seed, steps, guidance, model, first_frame)
        try:
            cards = await asyncio.to_thread(self._desk.models)
            pair = [choices.named(cards, alias) for alias in ("champion", "challenger")]
            for alias, card in zip(("champion", "challenger"), pair, strict=True):
                if card is None:
                    raise Refused(404, "no-model", _missing(alias))
                if kind not in card.tasks:
                    raise Refused(422, "task", f"The {alias} does not draw this kind of thing. Choose another.")
            orders = [form.order(model=alias) for alias in ("champion", "challenger")]
        except GokuError as refusal:
            yield _refused(refusal)
            return
        async for parts in self._drawn(orders, past, request):
            yield parts

    def cancel(self, tickets: Sequence[str]) -> None:
        """Ends what this visit has under way; the action that watches it then says so."""
        for ticket in tickets or ():
            self._desk.cancel(ticket)

    def take_frame(self, content: Any) -> tuple[Any, Any, str]:
        """A first frame as a data address: (its id, the drop zone, what is said)."""
        head, _, text = content.partition(",") if isinstance(content, str) else ("", "", "")
        try:
            if not head.startswith("data:image/") or not head.endswith(";base64"):
                raise Refused(422, "first-frame", "A first frame is a picture: PNG, JPEG or WebP.")
            taken = self._desk.upload(base64.b64decode(text, validate=True))
        except binascii.Error:
            return None, "", figures.said("The first frame did not arrive whole. Drop it again.", "fault")
        except Refused as refusal:
            return None, "", figures.said(str(refusal), "fault")
        return taken.id, LEFT_ALONE, figures.said(f"First frame taken: {taken.height} x {taken.width} px.")

    @staticmethod
    def show(past: Sequence[Drawing], event: gr.EventData) -> tuple[Any, Any]:
        """A drawing of this visit again: (left, right)."""
        wanted = getattr(event, "ticket", None)
        found = next((drawing for drawing in past or () if drawing.ticket.id == wanted), None)
        return (
            (LEFT_ALONE, LEFT_ALONE) if found is None else (figures.drawing(found), gr.update(value="", visible=False))
        )

    async def _drawn(self, orders: Sequence[Order], past: list[Drawing], request: gr.Request) -> AsyncIterator[Parts]:
        """Submits the orders and shows how they fare. Whoever leaves the page takes back what is not done."""
        drawings: list[Drawing] = []
        past = past or []
        try:
            cards = await asyncio.to_thread(self._desk.models)
            client = request.client.host if request.client else "page"  # as the API counts: one address, one share
            for order in orders:
                ticket = await asyncio.to_thread(self._desk.submit, order, client)
                drawings.append(_begun(order, ticket, cards))
            async for parts in self._watched(drawings, cards, past):
                yield parts
        except GokuError as refusal:
            yield _refused(refusal)
        except Exception as fault:  # a person must not wait for what does not come
            log.exception("the page: %s", type(fault).__name__)
            yield _refused(GokuError("A fault of the service; its log says where."))
        finally:
            for one in drawings:
                if not self._desk.ticket(one.ticket.id).has_ended:
                    self._desk.cancel(one.ticket.id)

    async def _watched(
        self, drawings: list[Drawing], cards: Sequence[ModelCard], past: list[Drawing]
    ) -> AsyncIterator[Parts]:
        shown: list[str] = []
        while True:
            drawings = [replace(one, ticket=self._desk.ticket(one.ticket.id)) for one in drawings]
            drawings = [one if one.origins else await self._finished(one, cards) for one in drawings]
            now = [figures.drawing(one, alone=len(drawings) == 1) for one in drawings]
            # what has not changed is not sent again: a clip would start from its beginning
            sides = [text if text != before else None for text, before in zip(now, shown or [""] * 2, strict=False)]
            over = all(one.ticket.has_ended for one in drawings)
            if over:
                made = [one for one in drawings if one.ticket.state == "done"]
                past = [*reversed(made), *past][:REMEMBERED]
            yield _parts(figures.status(drawings), sides, drawings, past, over)
            if over:
                return
            shown = now
            await asyncio.sleep(LOOK_S)

    async def _finished(self, drawing: Drawing, cards: Sequence[ModelCard]) -> Drawing:
        """With its provenance, once there is a file."""
        if drawing.ticket.state != "done":
            return drawing
        told = await asyncio.to_thread(self._desk.provenance, drawing.ticket.id)
        card = next((card for card in cards if card.digest == drawing.ticket.digest), None)
        parts = ", ".join(card.aliases) if card else ""
        return replace(
            drawing, origins=await asyncio.to_thread(origins, self._desk.workspace, told, drawing.ticket, parts)
        )


def _begun(order: Order, ticket: Ticket, cards: Sequence[ModelCard]) -> Drawing:
    card = next((card for card in cards if card.digest == ticket.digest), None)
    known = f"score {score(card.score, card.interval, None)}" if card else ""
    title = f"Version {ticket.version}" if order.model.isdigit() else order.model.capitalize()
    return Drawing(order.prompt, title, known, ticket)


def _parts(
    said: str, sides: Sequence[str | None], drawings: Sequence[Drawing], past: list[Drawing], over: bool
) -> Parts:
    left, right = (*sides, None)[:2]
    two = len(drawings) > 1
    return (
        said,
        LEFT_ALONE if left is None else left,
        gr.update(visible=two, **({} if right is None else {"value": right})),
        [] if over else [one.ticket.id for one in drawings],
        past if over else LEFT_ALONE,
        figures.history(past) if over else LEFT_ALONE,
        *_buttons(over),
    )


def _refused(refusal: GokuError) -> Parts:
    return (figures.said(str(refusal), "fault"), *[LEFT_ALONE] * 2, [], *[LEFT_ALONE] * 2, *_buttons(True))


def _buttons(idle: bool) -> tuple[Any, ...]:
    return (*[gr.update(interactive=idle)] * 3, gr.update(interactive=not idle))


def _missing(alias: str) -> str:
    if alias == "challenger":
        return (
            "There is no challenger to compare with: no candidate stands beside the champion. goku promote enters "
            "the next one, and goku registry ls shows what there is."
        )
    return "There is no champion yet: goku run or make demo makes the first."
