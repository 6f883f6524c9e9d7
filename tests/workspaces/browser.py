"""A real browser without a window, spoken to over a pipe (Chrome DevTools protocol): what people see is what is asked."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions",
    "--mute-audio", "--disable-smooth-scrolling",
    "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe",
]  # fmt: skip


class Browser:
    """One page of one browser. width, height in CSS pixels."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 1000) -> None:
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        words = f'exec "$0" "$@" 3<&{read_there} 4>&{write_there}'
        command = [
            "bash",
            "-c",
            words,
            str(PROGRAM),
            *FLAGS,
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
        ]
        self._process = subprocess.Popen(
            command, pass_fds=(read_there, write_there), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(read_there)
        os.close(write_there)
        self._read, self._write, self._waiting, self._number, self._session = read_here, write_here, b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        # the wrapper starts several processes: the group that was started here, and nobody else's
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(20)
        os.close(self._read)
        os.close(self._write)

    def open(self, page: Path, address: str = "") -> None:
        """Loads a file anew and waits until its scripts have run."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.resolve().as_uri() + address)
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")
        before = -1.0
        while (now := self.ask("scrollY")) != before:  # pages scroll smoothly to what the address names
            before = now
            time.sleep(0.1)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page; an exception there is one here."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise AssertionError(f"{expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def wait(self, expression: str, seconds: float = 20.0) -> Any:
        """Asks until the answer is true."""
        end = time.monotonic() + seconds
        while not (answer := self.ask(expression)):
            assert time.monotonic() < end, f"after {seconds} s still not true: {expression}"
            time.sleep(0.05)
        return answer

    def shoot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self, seconds: float = 60.0) -> bytes:
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._read], [], [], seconds)
            assert ready, "the browser says nothing"
            some = os.read(self._read, 1 << 16)
            assert some, "the browser has ended"
            self._waiting += some
        first, _, self._waiting = self._waiting.partition(b"\0")
        return first
