"""A model behind an OpenAI-compatible server (vLLM, SGLang, a hosted one), asked over HTTP.

Errors are of three kinds. Transient ones (no connection, time-out, 408, 425, 429, 5xx, an answer that is no answer) are
tried again with a growing wait. Ones that belong to one request (400, 413, 422) leave that one unanswered. Ones that
would meet every request (401, 403, 404, a bad address) stop the work at once.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Protocol

import cv2
import httpx
import numpy as np

from goku_core.chat.answers import Answer
from goku_core.pipeline.errors import GokuError

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
HOPELESS = {401: "the API key is refused", 403: "the API key may not do this", 404: "no such address or model"}
LONGEST_WAIT = 30.0  # s, between two tries
JPEG_QUALITY = 90
CHECK_SECONDS = 10.0


class Endpoint(Protocol):
    """One model and where it is asked.

    model         its name there
    url           what stands before /chat/completions
    key_variable  name of the environment variable with the API key; "": none
    send          pictures as such, or as one video/jpeg
    max_tokens    length of an answer at most
    """

    model: str
    url: str
    key_variable: str
    send: Literal["pictures", "video"]
    max_tokens: int


class Patience(Protocol):
    """How a server is asked: requests under way, s for one answer, tries, s before the second try."""

    concurrency: int
    timeout_seconds: float
    attempts: int
    backoff_seconds: float


class Unanswered(Exception):
    """One request stays without an answer. `transient`: the server failed, not the request."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class Server:
    """Asks one model. Requests under way are bounded by the semaphore, which several models may share."""

    def __init__(self, endpoint: Endpoint, settings: Patience, slots: asyncio.Semaphore) -> None:
        """Raises `GokuError` where the variable that should hold the key is not set."""
        self.endpoint, self.settings, self.slots = endpoint, settings, slots
        headers = {"Content-Type": "application/json"} | _authorization(endpoint)
        self.url = endpoint.url.rstrip("/") + "/chat/completions"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(settings.timeout_seconds, connect=min(10.0, settings.timeout_seconds)),
            limits=httpx.Limits(max_connections=settings.concurrency),
            trust_env=not _is_local(endpoint.url),  # a proxy knows nothing of this machine's ports
        )

    @property
    def identity(self) -> str:
        return self.endpoint.model

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ):
        await self._client.aclose()

    async def ask(self, prompt: str, images: Sequence[np.ndarray], temperature: float, seed: int) -> Answer:
        """One answer. images: uint8 (H, W, 3) RGB. Raises `Unanswered`, or `GokuError` where asking on is pointless."""
        body = await asyncio.to_thread(self.body, prompt, images, temperature, seed)  # pictures take a while
        for attempt in range(1, self.settings.attempts + 1):
            async with self.slots:
                answer, why, wait = await self._try(body)
            if answer is not None:
                return answer
            if attempt < self.settings.attempts:
                await asyncio.sleep(self._wait(attempt) if wait is None else min(wait, LONGEST_WAIT))
        raise Unanswered(f"{why} (tried {self.settings.attempts} times)", transient=True)

    def body(self, prompt: str, images: Sequence[np.ndarray], temperature: float, seed: int) -> bytes:
        """The request as it is sent, JSON."""
        request = {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": self._content(prompt, images)}],
            "max_tokens": self.endpoint.max_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        return json.dumps(request, ensure_ascii=False).encode()

    def _wait(self, attempt: int) -> float:
        """Doubling, with chance in it: requests that failed together do not come back together."""
        return min(LONGEST_WAIT, self.settings.backoff_seconds * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)

    async def _try(self, body: bytes) -> tuple[Answer | None, str, float | None]:
        """(answer, what went wrong in passing, wait that the server asks for in s)."""
        try:
            async with asyncio.timeout(self.settings.timeout_seconds):  # of the whole, also where bytes drip in
                response = await self._client.post(self.url, content=body)
        except (httpx.TimeoutException, TimeoutError):
            return None, f"no answer within {self.settings.timeout_seconds:g} s", None
        except httpx.TransportError as error:
            return None, f"{type(error).__name__}: {error}".rstrip(": "), None
        except httpx.InvalidURL as error:
            raise GokuError(f"{self.url}: {error}") from error
        status = response.status_code
        if status in HOPELESS:
            raise GokuError(f"{self.url} answers {status}: {HOPELESS[status]}. It says: {_said(response)}")
        if status in TRANSIENT or status >= 500:
            return None, f"status {status}", _asked_wait(response)
        if status != 200:
            raise Unanswered(f"status {status}: {_said(response)}", transient=False)
        try:
            choice = response.json()["choices"][0]
            text, finish = choice["message"]["content"], choice.get("finish_reason") or "stop"
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return None, "an answer that is not of the chat-completions form", None
        if not isinstance(text, str):  # null where a model thinks up to max_tokens and says nothing
            text = ""
        return Answer(text, str(finish)), "", None

    def _content(self, prompt: str, images: Sequence[np.ndarray]) -> str | list[dict[str, Any]]:
        if not len(images):
            return prompt  # servers of text models do not all take lists
        frames = [_jpeg(image) for image in images]
        text = {"type": "text", "text": prompt}
        if self.endpoint.send == "video" and len(frames) > 1:
            # vLLM takes a clip as its frames: JPEGs in base64, with commas between them.
            return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(frames)}"}}, text]
        pictures = [{"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{frame}"}} for frame in frames]
        return [*pictures, text]


def check(endpoint: Endpoint) -> None:
    """One look at a server before hours of decoding: whether it is there, takes the key and has the model.

    Raises `GokuError` where it surely will not do. A server that tells no list of models gets the benefit of the doubt.
    """
    url = endpoint.url.rstrip("/") + "/models"
    try:
        response = httpx.get(
            url, headers=_authorization(endpoint), timeout=CHECK_SECONDS, trust_env=not _is_local(endpoint.url)
        )
    except (httpx.TransportError, httpx.InvalidURL) as error:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise GokuError(f"no server at {endpoint.url} ({reason}): start it first, or mend the url") from error
    if response.status_code in (401, 403):
        raise GokuError(f"{url} answers {response.status_code}: {HOPELESS[response.status_code]}")
    try:
        names = [entry["id"] for entry in response.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return
    if response.status_code == 200 and names and endpoint.model not in names:
        raise GokuError(f"{endpoint.url} serves no model {endpoint.model!r}; it has {', '.join(map(str, names[:8]))}")


def _authorization(endpoint: Endpoint) -> dict[str, str]:
    if not (name := endpoint.key_variable):
        return {}
    if not (key := os.environ.get(name)):
        raise GokuError(f"the environment variable {name} (key_variable) is not set: it holds the API key")
    return {"Authorization": f"Bearer {key}"}


def _jpeg(image: np.ndarray) -> str:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise ValueError(f"no JPEG of an image {image.shape}")
    return base64.b64encode(data.tobytes()).decode()


def _said(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:300] or "nothing"


def _asked_wait(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdigit() else None


def _is_local(url: str) -> bool:
    return httpx.URL(url).host in ("localhost", "127.0.0.1", "::1")
