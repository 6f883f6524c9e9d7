"""The page of a running `goku serve` as a person has it: a browser's view that notes every request and every complaint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

PROGRAM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-quic", "--no-first-run",
]  # fmt: skip
PATIENCE = 90_000.0  # ms; a machine with two cores may have other things to do


@dataclass
class Visit:
    """One visit of the page. `elsewhere`: requests to other hosts; `complaints`: errors on the browser's console."""

    page: Any
    elsewhere: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def wait(self, selector: str) -> Any:
        return self.page.wait_for_selector(selector, timeout=PATIENCE)

    def said(self) -> str:
        return self.page.inner_text("#status")

    def until_said(self, words: str) -> str:
        self.page.wait_for_function(
            "words => document.querySelector('#status').innerText.includes(words)", arg=words, timeout=PATIENCE
        )
        return self.said()

    def facts(self, side: str = "#left") -> dict[str, str]:
        """Names and values of what the page tells of a drawing."""
        names, values = (self.page.locator(f"{side} .origins {tag}").all_text_contents() for tag in ("dt", "dd"))
        return dict(zip(names, values, strict=True))

    def file(self, side: str = "#left") -> bytes:
        """The bytes behind the picture or clip that is shown."""
        source = self.page.get_attribute(f"{side} figure img, {side} figure video", "src")
        answer = self.page.request.get(source)
        assert answer.ok, answer.status
        return answer.body()


@contextmanager
def visiting(url: str, **view: Any) -> Iterator[Visit]:
    """A fresh browser on the page. view: of playwright's contexts (viewport, color_scheme)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        try:
            yield visit(browser, url, **view)
        finally:
            browser.close()


def visit(browser: Any, url: str, **view: Any) -> Visit:
    """A visit of its own in that browser: opened and ready."""
    host = urlsplit(url).netloc
    page = browser.new_page(base_url=url, **{"viewport": {"width": 1280, "height": 900}} | view)
    page.set_default_timeout(PATIENCE)
    begun = Visit(page)

    def asked(request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != host:
            begun.elsewhere.append(request.url)

    page.on("request", asked)
    page.on("websocket", lambda socket: begun.elsewhere.append(socket.url))
    page.on("console", lambda said: begun.complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: begun.complaints.append(str(error)))
    page.goto("/")
    # what the form offers has come from the models
    page.wait_for_function("document.querySelector('#form [aria-label=Model]')?.value?.includes('version')")
    return begun
