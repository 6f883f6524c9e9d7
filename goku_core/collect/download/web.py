"""One request to a web server: redirects followed, addresses checked at every step, failures named.

Standard library only: what is connected to must be the very address that was checked, which general clients do not let
one say. Proxies of the environment are not used.
"""

from __future__ import annotations

import datetime
import email.utils
import functools
import http.client
import re
import socket
import ssl
import time
from collections.abc import Generator
from contextlib import closing
from urllib.parse import quote, urljoin

from goku_core.collect.download.address import Policy, Web, public, web
from goku_core.collect.download.answer import Failure, Reply
from goku_core.collect.download.cache import Known

CHUNK = 1 << 18
MOST_REDIRECTS = 5
REDIRECTS = {301, 302, 303, 307, 308}
NEVER = {501, 505}  # of the 5xx, those that say "not this way", not "not now"
LEAST_BYTES_PER_SECOND = 1024.0  # our choice: below it a server holds a thread for nothing
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
UNSATISFIABLE = 416
KEPT = "/%:@!$&'()*+,;=~-._?#[]"  # of where a server sends on to; its other bytes are percent-encoded


def ask(url: str, known: Known, start: int, policy: Policy, timeout: float) -> Reply | None:
    """The file at `url` from byte `start` on if it is still the known version, else from its beginning.

    start    bytes that are there already. At `known.total` (or where a digest of the whole is known) all are there: the
             server is asked whether that is still the file, and None is returned where it is
    timeout  seconds without a byte after which the connection is given up
    """
    headers = {"User-Agent": "goku-collect", "Accept-Encoding": "identity", "Connection": "close"}
    whole = bool(known.sha256) or (start > 0 and start == known.total)
    if whole and known.etag:
        headers["If-None-Match"] = known.etag
    elif whole and known.modified:
        headers["If-Modified-Since"] = known.modified
    elif not whole and start:
        headers["Range"] = f"bytes={start}-"
        if known.if_range:
            headers["If-Range"] = known.if_range
    for _ in range(MOST_REDIRECTS + 1):
        connection, response = _request(web(url), headers, policy, timeout)
        if response.status not in REDIRECTS:
            return _reply(connection, response, headers, start, timeout)
        connection.close()
        url = urljoin(url, quote(response.getheader("Location", "").encode("latin-1"), safe=KEPT))
        if not url.startswith(("http://", "https://")):
            raise Failure("redirect", f"the server sends on to {url[:80]!r}, which is no web address")
    raise Failure("redirect", f"the server sends on more than {MOST_REDIRECTS} times, last to {public(url)}")


class _Plain(http.client.HTTPConnection):
    """A connection to addresses that were checked before, whatever the name leads to now."""

    def __init__(self, place: Web, addresses: list[str], timeout: float) -> None:
        super().__init__(place.host, place.port, timeout=timeout)
        self._addresses = addresses

    def connect(self) -> None:
        self.sock = _connected(self._addresses, self.port, self.timeout)


class _Secure(http.client.HTTPSConnection):
    """As `_Plain`; the certificate must be one of the name that was asked for."""

    def __init__(self, place: Web, addresses: list[str], timeout: float) -> None:
        super().__init__(place.host, place.port, timeout=timeout, context=_trusted())
        self._addresses = addresses

    def connect(self) -> None:
        self.sock = _trusted().wrap_socket(
            _connected(self._addresses, self.port, self.timeout), server_hostname=self.host
        )


@functools.cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _connected(addresses: list[str], port: int, timeout: float | None) -> socket.socket:
    last: OSError | None = None
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout)
        except OSError as error:
            last = error
    raise last or OSError("no address to connect to")


def _request(
    place: Web, headers: dict[str, str], policy: Policy, timeout: float
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    addresses = policy.addresses(place.host, place.port)
    make = _Secure if place.scheme == "https" else _Plain
    connection = make(place, addresses, timeout)
    try:
        connection.request("GET", place.target, headers=headers | {"Host": place.authority.encode("idna").decode()})
        return connection, connection.getresponse()
    except ssl.SSLCertVerificationError as error:
        connection.close()
        raise Failure("tls", f"the certificate of {place.host} is not trusted: {error.verify_message}") from None
    except TimeoutError:
        connection.close()
        raise Failure("timeout", f"{place.authority} does not answer within {timeout:g} s", passing=True) from None
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise Failure("connect", f"{place.authority}: {_words(error)}", passing=True) from None


def _reply(
    connection: http.client.HTTPConnection,
    response: http.client.HTTPResponse,
    asked: dict[str, str],
    start: int,
    timeout: float,
) -> Reply | None:
    try:
        status = response.status
        if status == 304 and ("If-None-Match" in asked or "If-Modified-Since" in asked):
            connection.close()
            return None
        if status == UNSATISFIABLE and "Range" in asked:
            raise Failure("range", f"the server has nothing from byte {start} on", passing=True)
        if status not in (200, 206):
            raise Failure(
                f"http-{status}",
                f"the server answers {status} {response.reason}".rstrip(),
                passing=status in (408, 425, 429) or (status >= 500 and status not in NEVER),
                wait_seconds=_retry_after(response.getheader("Retry-After", "")),
            )
        if response.getheader("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise Failure("encoded", "the server compresses what it sends, though asked not to")
        total, begins = response.length, 0
        if status == 206:
            told = RANGE.fullmatch(response.getheader("Content-Range", ""))
            if "Range" not in asked or told is None or int(told[1]) != start:
                raise Failure("range", "the server sends another part of the file than was asked for", passing=True)
            begins = start
            total = None if told[2] == "*" else int(told[2])
        return Reply(
            start=begins,
            total=total,
            etag=_latin(response.getheader("ETag", "")),
            modified=_latin(response.getheader("Last-Modified", "")),
            media_type=response.getheader("Content-Type", ""),
            sha256="",
            chunks=_chunks(connection, response, timeout),
        )
    except Failure:
        connection.close()
        raise


def _chunks(
    connection: http.client.HTTPConnection, response: http.client.HTTPResponse, timeout: float
) -> Generator[bytes, None, None]:
    """What arrives, as it arrives; never more than the server said it would send."""
    left = response.length
    window, received = time.monotonic(), 0
    with closing(connection), closing(response):
        while left is None or left > 0:
            try:
                # read1, not read: the latter waits for a whole chunk, however slowly it drips.
                chunk = response.read1(CHUNK if left is None else min(CHUNK, left))
            except TimeoutError:
                raise Failure("timeout", f"nothing arrives for {timeout:g} s", passing=True) from None
            except (OSError, http.client.HTTPException) as error:
                raise Failure("cut", f"the connection breaks: {_words(error)}", passing=True) from None
            if not chunk:
                return
            yield chunk
            if left is not None:
                left -= len(chunk)
            received += len(chunk)
            if (seconds := time.monotonic() - window) >= timeout:
                if received < LEAST_BYTES_PER_SECOND * seconds:
                    raise Failure("slow", f"less than {LEAST_BYTES_PER_SECOND:g} bytes per second", passing=True)
                window, received = time.monotonic(), 0


def _retry_after(value: str) -> float | None:
    """Seconds, from a number or a date."""
    if value.isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    return max(0.0, (when - datetime.datetime.now(datetime.UTC)).total_seconds())


def _latin(header: str) -> str:
    """A header that may be sent back: without what a header may not hold."""
    return "".join(character for character in header.strip() if 32 <= ord(character) < 256)


def _words(error: Exception) -> str:
    """An error in words that are the same each time: without addresses of objects and times."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}{f': {error}' if str(error) else ''}"
