"""A real web server on this machine that serves bytes well, or spoils them in one named way each."""

from __future__ import annotations

import hashlib
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODIFIED = "Sat, 21 Nov 2026 05:00:00 GMT"


@dataclass
class Page:
    """What lies at a path, and how the server behaves there.

    cut_after     closes the connection after this many bytes of a reply
    announced     Content-Length it states in place of the true one; None: the true one; -1: none at all
    statuses      answers given first, before the real ones
    location      where it sends on to
    ranges        does it know ranges
    etag          None: the digest of the content; empty: no validator of any kind
    pause         seconds before each 64 KiB
    headers       further ones
    """

    content: bytes = b""
    media_type: str = "video/mp4"
    cut_after: int | None = None
    announced: int | None = None
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    ranges: bool = True
    etag: str | None = None
    pause: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    path: str
    range: str | None
    if_range: str | None
    status: int


class MediaServer:
    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Page] = {}
        self.log: list[Request] = []
        self.sent = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *_: object) -> None:
                """Silent: the log is `MediaServer.log`."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        if tls:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)

    def put(self, path: str, content: bytes = b"", **behaviour: object) -> str:
        """Lay `content` at `path`; its address."""
        self.pages[path] = Page(content, **behaviour)  # type: ignore[arg-type]
        return self.url + path

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.log if request.path == path]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        page, wanted = self.pages.get(path), handler.headers
        if page is None:
            return self._head(handler, 404, {"Content-Length": "0"})
        if page.statuses:
            return self._head(handler, page.statuses.pop(0), {"Content-Length": "0"} | page.headers)
        if page.location:
            return self._head(handler, 302, {"Location": page.location, "Content-Length": "0"})
        etag = f'"{hashlib.md5(page.content).hexdigest()}"' if page.etag is None else page.etag
        validators = {"ETag": etag, "Last-Modified": MODIFIED} if etag else {}
        if etag and wanted.get("If-None-Match") == etag:
            return self._head(handler, 304, validators)
        start, status = 0, 200
        spec = wanted.get("Range")
        if spec and page.ranges and wanted.get("If-Range", etag) in (etag, MODIFIED):
            start, status = int(spec.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(page.content):
                return self._head(
                    handler, 416, {"Content-Range": f"bytes */{len(page.content)}", "Content-Length": "0"}
                )
        body = page.content[start:]
        headers = {"Content-Type": page.media_type, **validators, **page.headers}
        if page.announced != -1:
            headers["Content-Length"] = str(len(body) if page.announced is None else page.announced - start)
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(page.content) - 1}/{len(page.content)}"
        self._head(handler, status, headers)
        if page.cut_after is not None:
            body = body[: page.cut_after]
        for at in range(0, len(body), 1 << 16):
            time.sleep(page.pause)
            handler.wfile.write(body[at : at + (1 << 16)])
            self.sent += len(body[at : at + (1 << 16)])
        handler.close_connection = True
        return None

    def _head(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        wanted = handler.headers
        self.log.append(Request(handler.path, wanted.get("Range"), wanted.get("If-Range"), status))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()


@contextmanager
def media_server(tls: ssl.SSLContext | None = None) -> Iterator[MediaServer]:
    server = MediaServer(tls)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def film(seed: int, size: int = 2000) -> bytes:
    """Bytes that begin as an MP4 file does; each seed has its own."""
    head = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"
    block = hashlib.sha256(str(seed).encode()).digest()
    return (head + block * (size // len(block) + 1))[:size]
