"""Which of Gradio's addresses are open. Gradio brings some sixty routes; the page needs ten.

What stays shut, and why: `/gradio_api/file=` and `/gradio_api/upload` (measured with Gradio 6.31: in an application that
is mounted, not launched, a form may name any file of the server, which is then copied to where `file=` gives it out; so
a form here may hold no file at all), `/proxy=` (fetches for strangers), `/gradio_api/call` and `/run` (the API has one
door, `/v1`, with its limits), and editing, profiling, histories.
"""

from __future__ import annotations

import json
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PLAIN = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"  # a name: no slash, no leading dot
GET = re.compile(
    rf"/|/config|/theme\.css|/favicon\.ico|/(?:assets|static)(?:/{PLAIN})+"
    r"|/gradio_api/(?:queue/data|startup-events|heartbeat/[a-z0-9]{1,32})"
)
JOIN = "/gradio_api/queue/join"
# The browser itself then asks no other host for anything. Gradio's front end evaluates code and styles that it finds in
# the page's description, hence the unsafe ones; what people write is escaped (figures.py).
POLICY = (
    b"default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    b"script-src 'self' 'unsafe-inline' 'unsafe-eval'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    b"frame-ancestors 'self'"
)


class Doors:
    """ASGI: lets through what the page needs, answers 404 to the rest. To stand behind `Guard`, which bounds a body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["method"] in ("GET", "HEAD") and GET.fullmatch(scope["path"]):
            if scope["path"] in ("/", "/config"):
                scope = {**scope, "query_string": b""}  # `deep_link` would read a file
            await self._app(scope, receive, _with_policy(send))
        elif scope["method"] == "POST" and scope["path"] == JOIN:
            await self._form(scope, receive, send)
        else:
            await _refuse(send, 404, "not-found", "There is nothing here.")

    async def _form(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        if not is_plain(body):
            await _refuse(send, 422, "form", "A form has text and numbers only.")
            return
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        await self._app(scope, again, _with_policy(send))


def is_plain(body: bytes) -> bool:
    """Is it a JSON object whose `data` holds nothing but text, numbers, true, false and null? Gradio's files are objects."""
    try:
        form = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(form, dict) or not isinstance(form.get("data"), list):
        return False
    return all(value is None or isinstance(value, str | int | float) for value in form["data"])


async def _body(receive: Receive) -> bytes:
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(parts)


def _with_policy(send: Send) -> Send:
    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"content-security-policy", POLICY)]}
        await send(message)

    return marked


async def _refuse(send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
