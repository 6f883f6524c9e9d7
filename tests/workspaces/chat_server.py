"""A local HTTP server that speaks OpenAI's chat completions, with whatever trouble a test wants, and rows to ask about."""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from goku_core.curate.captions.request import Captions
from goku_core.curate.captions.step import describe
from goku_core.curate.table import EMPTY


@dataclass
class Reply:
    """text becomes an answer of the right form; `raw` replaces the whole body; status -1 hangs up without an answer."""

    text: str = ""
    status: int = 200
    raw: bytes | None = None
    finish: str = "stop"
    wait: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    body: dict[str, Any]
    key: str | None
    prompt: str
    images: list[np.ndarray]


class ChatServer:
    """`answer(asked)` gives the reply; `log` holds all requests, `most` how many were under way at once."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.answer, self.log, self.most = answer, [], 0
        self.models: list[str] | None = None  # what it says it serves; None: it has no such list
        self._lock, self._now = threading.Lock(), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # connections stay open, as with real servers

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = Asked(body, self.headers.get("Authorization"), *_unpacked(body["messages"][0]["content"]))
                with outer._lock:
                    outer.log.append(asked)
                    outer._now += 1
                    outer.most = max(outer.most, outer._now)
                reply = outer.answer(asked) if self.path == "/v1/chat/completions" else Reply(status=404)
                time.sleep(reply.wait)
                with outer._lock:
                    outer._now -= 1
                if reply.status < 0:
                    self.close_connection = True
                    return
                choice = {"message": {"role": "assistant", "content": reply.text}, "finish_reason": reply.finish}
                data = reply.raw if reply.raw is not None else json.dumps({"choices": [choice]}).encode()
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                known = self.path == "/v1/models" and outer.models is not None
                data = json.dumps({"data": [{"id": name} for name in outer.models or ()]}).encode()
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nothing: the test reads `log`."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that timed out or was killed has gone: that is what the test is about."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _unpacked(content: Any) -> tuple[str, list[np.ndarray]]:
    if isinstance(content, str):
        return content, []
    prompt, images = "", []
    for part in content:
        if part["type"] == "text":
            prompt += part["text"]
            continue
        url = part[part["type"]]["url"]
        assert url.startswith(("data:image/jpeg;base64,", "data:video/jpeg;base64,"))
        for data in url.split(",")[1:]:
            image = cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR)
            images.append(image[:, :, ::-1])
    return prompt, images


def row(number: int, kind: str = "video", caption: str = "") -> dict[str, Any]:
    """A kept row whose frames have the brightness `number`, by which the server can know it."""
    named = {"clip_id": f"{number:064x}:0-100", "media_id": f"{number:064x}", "kind": kind, "seconds": 4.0}
    return {**EMPTY, **named, "motion": 3.0, "caption": caption, "caption_source": "sidecar" if caption else "none"}


def frames(of: dict[str, Any], most: int) -> list[np.ndarray]:
    return [np.full((16, 24, 3), int(of["media_id"], 16), np.uint8)] * most


def number_of(asked: Asked) -> int:
    return round(float(asked.images[0].mean()))


def prose(number: int) -> str:
    """A caption that passes the checks, another one for every number."""
    count = ("one", "two", "three", "four", "five")[number % 5]
    return (
        f"A scene with {count} red boats on a quiet lake near hill number {number}, in the soft light of the morning."
    )


def settings(url: str, **changes: Any) -> Captions:
    """Pictures and key frames from a server; quick about waiting."""
    own = {"kind": "server", "model": "intern", "url": url}
    return Captions(**{"keyframes": own, "backoff_seconds": 0.01, "timeout_seconds": 5, **changes})


if __name__ == "__main__":  # URL, workspace, number of rows: a process of its own, for tests that kill it
    url, workspace, count = sys.argv[1:]
    rows = [row(number) for number in range(int(count))]
    describe(rows, settings(url, concurrency=2), Path(workspace), frames, lambda done: None)
    print(json.dumps(rows))
