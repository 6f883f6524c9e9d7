"""Addresses from lists that others wrote: what is one, how it is written down, and where it may lead."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from goku_core.collect.download.answer import Failure
from goku_core.pipeline.errors import GokuError
from goku_core.storage import SCHEME, split_url

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# What a signed address carries beside the name of the file: it lets others in while it is valid, and differs each time.
SIGNATURE = re.compile(
    r"x-amz-.*|x-goog-.*|awsaccesskeyid|googleaccessid|key-pair-id|policy|signature|expires|sig|se|sp|sr|sv|st|spr|"
    r"sks|ske|skt|skv|skoid|sktid",
    re.IGNORECASE,
)
SIGNED = re.compile(r"(?:[?&])(?:x-amz-signature|x-goog-signature|signature|sig)=", re.IGNORECASE)
NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Web:
    """An http or https address, taken apart. `target` is what the request line says, percent-encoded."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def web(url: str) -> Web:
    """Raises `Failure` of class ``address`` where `url` is not an http(s) address that may be asked for."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Failure("address", f"not a web address: {error}") from None
    if parts.scheme not in ("http", "https") or not host or any(ord(c) < 32 or ord(c) == 127 for c in url):
        raise Failure("address", "not an address that begins with http://, https:// or s3://")
    if parts.username is not None or parts.password is not None:
        raise Failure("address", "the address holds a user name or password, which are never sent")
    try:
        host.encode("idna")
    except UnicodeError:
        raise Failure("address", "its host is not a name") from None
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    if port == 0:
        raise Failure("address", "0 is no port")
    return Web(
        parts.scheme, host, port or (443 if parts.scheme == "https" else 80), f"{path}?{query}" if query else path
    )


def public(url: str) -> str:
    """The address as it may be written down: without what signs it, without user names and passwords.

    The same file signed twice has the same public address.
    """
    if url.startswith(SCHEME):
        return url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "an address that cannot be read"
    netloc = parts.netloc
    if parts.username is not None or parts.password is not None:
        netloc = host if port is None else f"{host}:{port}"
    query = parts.query
    if SIGNED.search(f"?{query}"):
        kept = [(k, v) for k, v in parse_qsl(query, keep_blank_values=True) if not SIGNATURE.fullmatch(k)]
        query = urlencode(kept)
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def check(url: str) -> None:
    """Raises `Failure` of class ``address`` where `url` names neither a web address nor an object of a bucket."""
    if not url.startswith(SCHEME):
        web(url)
        return
    try:
        _, key = split_url(url)
    except GokuError as error:
        raise Failure("address", str(error)) from None
    if not key or key.endswith("/"):
        raise Failure("address", f"{url} names a bucket or a folder, not an object")


@dataclass(frozen=True)
class Policy:
    """Which machines may be asked. Private, loopback and link-local addresses are not, unless allowed here.

    hosts     names in lower case that may be asked wherever they lead
    networks  addresses that may be asked under any name
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = field(default=())

    @classmethod
    def of(cls, allowed: Sequence[str]) -> Policy:
        """From names, addresses and networks: ``media.internal``, ``10.0.3.7``, ``10.1.0.0/16``."""
        hosts, networks = set(), []
        for entry in allowed:
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                hosts.add(entry.lower().rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def addresses(self, host: str, port: int) -> list[str]:
        """Where `host` leads and may lead, in the order to be tried; the connection is made to one of these.

        The name is looked up here and nowhere else: a name that leads somewhere else a moment later is not asked again.
        Raises `Failure` of class ``dns`` (passing) or ``refused-address``.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise Failure("dns", f"the name {host} leads nowhere: {error}", passing=True) from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if host.lower().rstrip(".") in self.hosts:
            return addresses
        allowed = [address for address in addresses if self._may(address)]
        if not allowed:
            where = f"{host} leads to {addresses[0]}, which" if host != addresses[0] else host
            raise Failure(
                "refused-address",
                f"{where} is no public address; "
                "collect.download.allow_hosts lists hosts and networks that may be asked all the same",
            )
        return allowed

    def _may(self, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        return is_public(address) or any(
            one in network
            for one in (address, *_inside(address))
            for network in self.networks
            if one.version == network.version
        )


def is_public(address: IPAddress) -> bool:
    """Is it reachable from anywhere? Addresses that carry an IPv4 address within are judged by that one too."""
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        # ::ffff:8.8.8.8 is reserved as a form and says nothing of the machine behind it.
        inside = _inside(address)
        return bool(inside) and not _is_local(address) and all(is_public(one) for one in inside)
    return all(is_public(one) for one in _inside(address))


def _is_local(address: IPAddress) -> bool:
    return address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local


def _inside(address: IPAddress) -> list[IPAddress]:
    """IPv4 addresses that an IPv6 one stands for: mapped, 6to4, Teredo's server and client, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[IPAddress] = [one for one in (address.ipv4_mapped, address.sixtofour) if one is not None]
    found += address.teredo or ()
    if address in NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found
