"""In front of every path: who may ask, from where, and how much. Nothing behind it can be reached around it.

The holes of servers of this kind were mostly paths that a check beside the routes had forgotten. So it stands before all of them
(the page, its websockets and its documents too), and the one path that it lets through is compared as a whole.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goku_core.pipeline.errors import GokuError

TOKEN = "GOKU_SERVE_TOKEN"
OPEN_PATH = "/healthz"
LEAST_TOKEN = 16  # characters: fewer can be guessed
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
DRAINED, DRAIN_SECONDS = 4, 10.0  # of a refused body: so many times the most that is taken, so long
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


def read_token(file: Path | None) -> str | None:
    """The token, from a file or from the environment; None where neither is given. Raises GokuError for a poor one."""
    if file is not None:
        try:
            token, source = file.read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise GokuError(f"--token-file {file}: cannot be read ({error}).") from error
    else:
        token, source = os.environ.get(TOKEN, "").strip(), TOKEN
        if not token:
            return None
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable():
        raise GokuError(
            f"{source}: a token has at least {LEAST_TOKEN} plain characters. Make one: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return token


def require_guarded(host: str, token: str | None, port: int) -> None:
    """Raises `GokuError` for an address that others can reach while no token is set."""
    from goku_core.services.servers import is_loopback

    if token is None and not is_loopback(host):
        raise GokuError(
            f"--host {host}: others could reach this address, and without a token whoever reaches it may draw, read what "
            f"others drew, and fill the disk. Set {TOKEN} or give --token-file, or leave --host away and reach the service "
            f"through a tunnel: ssh -L {port}:127.0.0.1:{port} HOST."
        )


class Guard:
    """ASGI middleware.

    token  what a client must show, as a bearer token or as the password of basic authentication (any user name); None: nothing
    hosts  names, beside this machine's own, under which the service may be called. Without a token a foreign name is refused:
           it would be a page elsewhere that had its own name lead here
    most   bytes of a body
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Collection[str], most: int) -> None:
        self.app, self.most = app, most
        self._token = None if token is None else token.encode()
        self._hosts = {name.lower() for name in (*LOOPBACK_NAMES, *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["type"] == "http" and scope["path"] == OPEN_PATH and scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
        elif refusal := self._refusal(headers):
            await self._refuse(scope, receive, send, *refusal)
        else:
            await self._pass(scope, receive, send, headers)

    def _refusal(self, headers: dict[str, str]) -> tuple[int, str, str] | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._token is None and _name(host) not in self._hosts:
            return 403, "host", "This service is not known under that name (--allowed-host)."
        if self._token is not None and not self._knows(headers.get("authorization", "")):
            return 401, "token", "Send the service's token: Authorization: Bearer TOKEN, or as the password of a login."
        if origin is not None:
            netloc = urlsplit(origin).netloc
            if netloc.lower() != host.lower() and (not netloc or _name(netloc) not in self._hosts - {*LOOPBACK_NAMES}):
                return 403, "origin", "Pages of other sites may not call this service."
        return None

    def _knows(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        shown = given.strip().encode("latin-1")
        if scheme.lower() == "basic":
            try:
                shown = base64.b64decode(shown, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(shown, self._token or b"")

    async def _pass(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.most:
            await self._refuse(scope, receive, send, *self._too_large())
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.most:
                await self._drain(receive, message)
                raise HTTPException(413, self._too_large()[2])  # which every framework passes on
            return message

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message.get("headers", ()), *_missing(message.get("headers", ()))]}
            await send(message)

        await self.app(scope, counted if scope["type"] == "http" else receive, marked)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, *refusal: Any) -> None:
        if scope["type"] == "http":
            await self._drain(receive, {"type": "http.request", "more_body": True})
        await _refuse(scope, send, *refusal)

    async def _drain(self, receive: Receive, message: Message) -> None:
        """Take a refused body off the line, within bounds: a client that is hung up on while it sends never sees the answer."""
        left = DRAINED * self.most
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while left > 0 and message["type"] == "http.request" and message.get("more_body"):
                    message = await receive()
                    left -= len(message.get("body", b""))

    def _too_large(self) -> tuple[int, str, str]:
        return 413, "body", f"The request has more than {self.most} bytes."


def _missing(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    there = {name.lower() for name, _ in headers}
    return [header for header in HEADERS if header[0] not in there]


def _name(host: str) -> str:
    """The name in a Host header or an origin, without its port; an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


async def _refuse(scope: Scope, send: Send, status: int, code: str, message: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": code})
        return
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    headers: list[tuple[bytes, Any]] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what is left of a body that is not read would be taken for the next request
        *HEADERS,
    ]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="goku", charset="UTF-8"'))
        headers.append((b"www-authenticate", b'Bearer realm="goku"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
