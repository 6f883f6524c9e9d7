"""Prompt files from a web address: https alone, bounded, checked against a digest where one is given.

Nothing that arrives is run or unpacked: a suite is text.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import httpx

from goku_core.pipeline.errors import GokuError

MOST_BYTES = 64 << 20  # the largest published file has 5 MB
TRIES, TIMEOUT_SECONDS, REDIRECTS = 3, 30.0, 5
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


def fetch(address: str, folder: Path, files: tuple[str, ...], extra: tuple[str, ...]) -> Path:
    """The file at an address, or what a folder of that address (it ends in "/") holds of `files` and `extra`.

    "#sha256=..." behind the address of a file is checked against what arrives. Returns the file, or `folder`.
    Raises GokuError where the address is none, nothing is there, or it is not what was asked for.
    """
    plain, fragment = urldefrag(address)
    wanted = _digest(address, fragment)
    folder.mkdir(parents=True, exist_ok=True)
    if not plain.endswith("/"):
        name = Path(urlsplit(plain).path).name
        found = _bytes(plain)
        if found is None:
            raise GokuError(f"{plain}: there is no such file")
        if wanted and (came := hashlib.sha256(found).hexdigest()) != wanted:
            raise GokuError(f"{plain}: what arrived has SHA-256 {came}, not {wanted} as the address says")
        return _kept(folder / name, found)
    if wanted:
        raise GokuError(f"{address}: a digest belongs to the address of one file, not to a folder")
    came = {name: _bytes(plain + name) for name in (*files, *extra)}
    if not any(came[name] is not None for name in files):
        raise GokuError(f"{plain}: none of {', '.join(files)} is there")
    for name, data in came.items():
        if data is not None:
            _kept(folder / name, data)
    return folder


def _digest(address: str, fragment: str) -> str:
    if not fragment:
        return ""
    kind, _, value = fragment.partition("=")
    if kind != "sha256" or len(value) != 64:
        raise GokuError(f"{address}: behind # only sha256=<64 digits> is understood")
    return value.lower()


def _kept(place: Path, data: bytes) -> Path:
    draft = place.with_name(f".{place.name}.draft")
    draft.write_bytes(data)
    draft.replace(place)
    return place


def _bytes(address: str) -> bytes | None:
    """What is at the address; None where the server says that nothing is."""
    for attempt in range(1, TRIES + 1):
        try:
            status, data = _ask(address)
        except httpx.TransportError as error:
            status, data, why = 0, b"", f"{type(error).__name__}: {error}".rstrip(": ")
        except httpx.InvalidURL as error:
            raise GokuError(f"{address}: {error}") from error
        else:
            why = f"the server answers {status}"
        if status == 404:
            return None
        if status == 200:
            if data.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
                raise GokuError(f"{address}: a web page came, not a file. Give the address of the raw file.")
            return data
        if status not in TRANSIENT and status != 0:
            break
        if attempt < TRIES:
            time.sleep(0.2 * 2**attempt)
    raise GokuError(f"{address}: {why}")


def _ask(address: str) -> tuple[int, bytes]:
    """(status, body). Every step of a redirection must be https as well."""
    with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client:
        for _ in range(REDIRECTS + 1):
            if urlsplit(address).scheme != "https":
                raise GokuError(f"{address}: suites come over https alone")
            with client.stream("GET", address) as reply:
                if reply.is_redirect:
                    address = urljoin(address, reply.headers["location"])
                    continue
                data = bytearray()
                for chunk in reply.iter_bytes():
                    data += chunk
                    if len(data) > MOST_BYTES:
                        raise GokuError(f"{address}: more than {MOST_BYTES >> 20} MB, which no suite has")
                return reply.status_code, bytes(data)
    raise GokuError(f"{address}: more than {REDIRECTS} redirections")
