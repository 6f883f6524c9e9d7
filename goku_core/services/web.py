"""Questions to the servers over HTTP: on this machine, past any proxy, with their password where there is one."""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

AUTH = "PREFECT_SERVER_API_AUTH_STRING"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


BUSY = 503  # Prefect's server on SQLite, when two write at once: to be asked again, as its own client does
TRIES, PAUSE_SECONDS = 6, 0.4


class Silent(Exception):
    """No answer, or one that says no."""


def ask(url: str, body: Any = None, timeout: float = 5.0) -> Any:
    """The JSON at `url`, or what it answers to `body`. Raises `Silent`."""
    request = urllib.request.Request(url, headers={"Content-Type": "application/json"})
    if secret := os.environ.get(AUTH):
        request.add_header("Authorization", f"Basic {base64.b64encode(secret.encode()).decode()}")
    if body is not None:
        request.data = json.dumps(body).encode()
    text = _text(request, timeout, TRIES if body is not None else 1)
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text.decode(errors="replace")


def _text(request: urllib.request.Request, timeout: float, tries: int) -> bytes:
    try:
        with _DIRECT.open(request, timeout=timeout) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        if error.code != BUSY or tries == 1:
            raise Silent(f"{request.full_url}: {error.code} {error.reason}") from error
    except (urllib.error.URLError, OSError) as error:
        raise Silent(f"{request.full_url}: {error}") from error
    time.sleep(PAUSE_SECONDS)
    return _text(request, timeout, tries - 1)


def answers(url: str) -> bool:
    try:
        ask(url, timeout=2.0)
    except Silent:
        return False
    return True
