"""Downloads from a real web server that serves well or spoils things; every way to fail is a row of its own."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from media_server import MediaServer, film, media_server

from goku_core.collect import Request, run
from goku_core.collect.collection import Report
from goku_core.collect.download import web
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError

QUICK = {"retries": 2, "backoff_seconds": 0.01, "timeout_seconds": 5.0, "allow_hosts": ["127.0.0.1"], "threads": 4}


@pytest.fixture
def server() -> Iterator[MediaServer]:
    with media_server() as running:
        yield running


class Place:
    """A workspace in which one source after the other is collected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = 0
        self.raw = Path()

    def collect(self, source: str | list[str] | list[dict], work: str = "work", **download: object) -> dict[str, dict]:
        """{address as in the list: row}; the files lie in `raw`."""
        self.report(source, work, **download)
        rows = pq.read_table(self.raw.parent / "raw.parquet").to_pylist()
        return {row["source"] or row["uri"]: row for row in rows}

    def report(self, source: str | list[str] | list[dict], work: str = "work", **download: object) -> Report:
        if isinstance(source, list):
            lines = [line if isinstance(line, str) else json.dumps(line) for line in source]
            name = "list.txt" if isinstance(source[0], str) else "list.jsonl"
            (self.folder / name).write_text("\n".join(lines))
            source = name
        self.runs += 1
        staging = self.folder / f"staging-{self.runs}"
        self.raw = staging / "data/raw"
        request = Request(source=source, download={"unreachable_max": 1, **QUICK, **download})
        return run(request, Context(self.folder, staging, self.folder, fingerprint=work, cores=2))

    def one(self, address: str, **download: object) -> dict:
        """The row of `address` beside a good file, without which nothing would be kept."""
        companion = self.folder / "good.mp4"
        companion.write_bytes(film(0))
        rows = self.collect([{"url": address}, {"url": str(companion)}], **download)
        return rows[address]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_files_are_named_by_their_bytes_whatever_the_address_says(server: MediaServer, place: Place) -> None:
    films = {
        "/../../etc/passwd": film(1),
        "/a/film.exe": film(2),
        "/b/film.exe": b"\xff\xd8\xff\xe0" + film(3),
        "/watch": b"\x1a\x45\xdf\xa3\x42\x82\x84webm" + film(4),
    }
    addresses = [server.put(path, content) for path, content in films.items()]
    rows = place.collect(addresses)
    assert [row["outcome"] for row in rows.values()] == ["kept"] * 4
    assert list(rows) == addresses, "in the order of the list"
    suffixes = [".mp4", ".mp4", ".jpg", ".webm"]
    for row, content, suffix in zip(rows.values(), films.values(), suffixes, strict=True):
        assert row["uri"] == f"data/raw/{sha(content)}{suffix}"
        assert (row["media_id"], row["bytes"]) == (sha(content), len(content))
        assert (place.raw / Path(row["uri"]).name).read_bytes() == content
    assert [row["kind"] for row in rows.values()] == ["video", "video", "image", "video"]
    assert len(list(place.raw.iterdir())) == 4, "and nothing else"


def test_same_bytes_and_same_address_twice_are_one(server: MediaServer, place: Place) -> None:
    a, b = server.put("/a.mp4", film(1)), server.put("/b.mp4", film(1))
    place.report([a, b, a + "#part"])
    rows = pq.read_table(place.raw.parent / "raw.parquet").to_pylist()
    assert [(row["outcome"], row["filter"]) for row in rows] == [
        ("kept", None),
        ("rejected", "duplicate"),
        ("rejected", "duplicate"),
    ]
    assert rows[1]["message"] == f"the same bytes as {a}" and rows[1]["uri"] == b
    assert "listed before" in rows[2]["message"]
    assert len(server.asked("/a.mp4")) == 1


@pytest.mark.parametrize(
    ("behaviour", "error_class", "said", "requests"),
    [
        ({"statuses": [404] * 9}, "http-404", "404", 1),
        ({"statuses": [403] * 9}, "http-403", "403", 1),
        ({"statuses": [501] * 9}, "http-501", "501", 1),
        ({"statuses": [503] * 9}, "http-503", "given up after 3 tries", 3),
        ({"statuses": [429] * 9}, "http-429", "given up after 3 tries", 3),
        ({"content": b""}, "empty", "no bytes", 1),
        ({"content": b"<!DOCTYPE html><p>log in", "media_type": "text/html"}, "content-type", "a page of a web", 1),
        ({"content": b'{"error": "quota"}', "media_type": "video/mp4"}, "content-type", "JSON", 1),
        ({"content": b"PK\x03\x04" + bytes(100)}, "content-type", "no known video", 1),
        ({"content": b"\0\0\0\x20ftypheic" + bytes(100)}, "content-type", "no known video", 1),
        ({"content": gzip.compress(film(1)), "headers": {"Content-Encoding": "gzip"}}, "encoded", "compresses", 1),
        # One byte more than is sent, for ever: tries end when nothing new arrives.
        ({"announced": 2001}, "cut", "2000 of 2001 bytes; given up after 3 tries", 3),
        ({"cut_after": 0}, "cut", "0 of 2000 bytes", 3),
        ({"content": film(1, 20_000), "announced": -1}, "too-large", "max_gigabytes", 1),
        ({"content": film(1, 20_000)}, "too-large", "max_gigabytes", 1),
        ({"location": "/film.mp4"}, "redirect", "more than 5 times", 6),
        ({"location": "file:///etc/passwd"}, "redirect", "no web address", 1),
    ],
)
def test_each_failure_has_its_class(
    server: MediaServer, place: Place, behaviour: dict, error_class: str, said: str, requests: int
) -> None:
    address = server.put("/film.mp4", **{"content": film(1), **behaviour})
    row = place.one(address, max_gigabytes=1e-5)
    assert (row["outcome"], row["filter"]) == ("failed", error_class)
    assert said in row["message"]
    assert row["uri"] == address and row["media_id"] == "" and row["kind"] == "video"
    assert len(server.log) == requests
    assert not list((place.folder / ".goku/cache/downloads/whole").rglob("*.mp4"))


def test_machines_inside_are_not_asked(server: MediaServer, place: Place) -> None:
    address = server.put("/film.mp4", film(1))
    row = place.one(address, allow_hosts=[])
    assert (row["outcome"], row["filter"]) == ("failed", "refused-address")
    assert server.log == []


def test_a_redirect_into_the_network_is_refused(server: MediaServer, place: Place) -> None:
    """Allowed is the name localhost; the server behind it sends on to an address that is not."""
    server.put("/secret.mp4", film(1))
    server.put("/open.mp4", location=server.url + "/secret.mp4")
    address = f"http://localhost:{server.port}/open.mp4"
    row = place.one(address, allow_hosts=["localhost"])
    assert row["filter"] == "refused-address"
    assert server.asked("/secret.mp4") == []
    assert place.one(address + "?2", allow_hosts=["localhost", "127.0.0.1"])["outcome"] == "kept"


def test_a_name_is_looked_up_once_and_that_address_is_connected_to(
    server: MediaServer, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere at the second look must not get past the check."""
    lookups, connected = [], []
    look_up, connect = socket.getaddrinfo, socket.create_connection

    def counted(host, *rest, **named):
        if host == "films.test":
            lookups.append(host)
            return look_up("127.0.0.1", *rest, **named)
        return look_up(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    monkeypatch.setattr(
        socket,
        "create_connection",
        lambda place, *rest, **named: connected.append(place) or connect(place, *rest, **named),
    )
    server.put("/film.mp4", film(1))
    row = place.one(f"http://films.test:{server.port}/film.mp4", allow_hosts=["films.test"])
    assert row["outcome"] == "kept"
    assert lookups == ["films.test"] and connected == [("127.0.0.1", server.port)]


def test_nobody_there_and_no_such_name(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    row = place.one(f"http://127.0.0.1:{port}/film.mp4")
    assert row["filter"] == "connect" and "refused" in row["message"]
    assert place.one("http://no.such.host.invalid/film.mp4")["filter"] == "dns"


def test_a_silent_server_is_given_up(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        row = place.one(f"http://127.0.0.1:{silent.getsockname()[1]}/f.mp4", timeout_seconds=0.1, retries=0)
    assert row["filter"] == "timeout"


def test_a_server_that_drips_is_given_up(place: Place) -> None:
    """Each byte comes before the timeout, the file never."""
    stop = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for byte in film(1):
            if stop.wait(0.03):
                break
            try:
                connection.sendall(bytes([byte]))
            except OSError:
                break
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,), daemon=True)
        thread.start()
        row = place.one(f"http://127.0.0.1:{listening.getsockname()[1]}/f.mp4", timeout_seconds=0.3, retries=0)
        stop.set()
        thread.join()
    assert row["filter"] == "slow"


def test_a_server_that_cuts_every_connection_is_slow_not_broken(server: MediaServer, place: Place) -> None:
    """Twenty cuts and two retries: what counts is whether anything new arrives."""
    content = random.Random(5).randbytes(200_000)
    content = film(1, 64) + content
    address = server.put("/film.mp4", content, cut_after=10_000)
    row = place.one(address)
    assert (row["outcome"], row["media_id"]) == ("kept", sha(content))
    starts = [int((asked.range or "bytes=0-").removeprefix("bytes=")[:-1]) for asked in server.log]
    assert starts == list(range(0, len(content), 10_000)), "each connection goes on where the last one ended"
    assert all(asked.if_range for asked in server.log[1:])


def test_a_passing_failure_passes(server: MediaServer, place: Place) -> None:
    address = server.put("/film.mp4", film(1), statuses=[503, 429], headers={"Retry-After": "0"})
    assert place.one(address)["outcome"] == "kept"
    assert [asked.status for asked in server.log] == [503, 429, 200]


@pytest.mark.parametrize(
    "behaviour", [{"ranges": False}, {"etag": ""}, {"etag": 'W/"weak"', "headers": {"Last-Modified": ""}}]
)
def test_where_nothing_proves_the_rest_belongs_to_the_beginning_it_starts_over(
    server: MediaServer, place: Place, behaviour: dict
) -> None:
    """No ranges, no validator, or one that names a meaning and not bytes."""
    content = film(1, 40_000)
    address = server.put("/film.mp4", content, cut_after=30_000, **behaviour)
    assert place.one(address)["filter"] == "cut"
    server.pages["/film.mp4"].cut_after = None
    assert place.one(address)["media_id"] == sha(content)


def test_a_file_that_changed_between_two_connections_is_not_a_mixture(server: MediaServer, place: Place) -> None:
    address = server.put("/film.mp4", film(1, 40_000), cut_after=30_000, ranges=False)
    assert place.one(address)["filter"] == "cut"
    new = server.pages["/film.mp4"].content = film(2, 40_000)
    server.pages["/film.mp4"].cut_after, server.pages["/film.mp4"].ranges = None, True
    assert place.one(address)["media_id"] == sha(new)
    assert server.log[-1].range and server.log[-1].status == 200, "the range was refused by If-Range"


def test_a_shrunken_file_starts_over(server: MediaServer, place: Place) -> None:
    address = server.put("/film.mp4", film(1, 40_000), cut_after=30_000, etag='"same"')
    assert place.one(address, retries=0)["filter"] == "cut"
    server.pages["/film.mp4"].content = film(1, 20_000)
    assert place.one(address)["media_id"] == sha(film(1, 20_000))
    assert 416 in [asked.status for asked in server.log]


def test_digest_and_size_of_the_table_are_demanded(server: MediaServer, place: Place) -> None:
    good = server.put("/good.mp4", film(1))
    other = server.put("/other.mp4", film(2))
    long = server.put("/long.mp4", film(3))
    endless = server.put("/endless.mp4", film(4), announced=-1)
    (place.folder / "local.mp4").write_bytes(film(5))
    rows = place.collect(
        [
            {"url": good, "sha256": sha(film(1)), "bytes": 2000, "caption": "a good one"},
            {"url": other, "sha256": "0" * 64},
            {"url": long, "bytes": 1999},
            {"url": endless, "bytes": 100},
            {"url": "local.mp4", "bytes": 7},
        ]
    )
    verdicts = {address: (row["outcome"], row["filter"]) for address, row in rows.items()}
    assert verdicts == {
        good: ("kept", None),
        other: ("failed", "digest"),
        long: ("failed", "size"),
        endless: ("failed", "size"),
        "local.mp4": ("failed", "size"),
    }
    assert rows[good]["caption"] == "a good one"
    assert sha(film(2)) in rows[other]["message"]


def test_pieces_that_do_not_fit_together_are_fetched_anew_once(server: MediaServer, place: Place) -> None:
    """With a digest in the table a server without validators may be resumed: the digest tells."""
    old, new = film(1, 40_000), film(2, 40_000)
    address = server.put("/film.mp4", old, cut_after=30_000, etag="")
    wanted = [{"url": address, "sha256": sha(new)}, {"url": server.put("/g.mp4", film(9))}]
    assert place.collect(wanted, retries=0)[address]["filter"] == "cut"
    server.pages["/film.mp4"].content, server.pages["/film.mp4"].cut_after = new, None
    assert place.collect(wanted)[address]["media_id"] == sha(new)
    assert [asked.status for asked in server.asked("/film.mp4")][-2:] == [206, 200]


def test_what_is_there_is_not_fetched_again(server: MediaServer, place: Place) -> None:
    address = server.put("/film.mp4", film(1))
    place.one(address)
    assert len(server.log) == 1
    place.one(address)
    assert len(server.log) == 1, "the same piece of work does not even ask"
    sent = server.sent
    assert place.one(address, work="another")["outcome"] == "kept"
    assert server.log[-1].status == 304 and server.sent == sent, "another asks whether it has changed"
    server.pages["/film.mp4"].content = film(2)
    assert place.one(address, work="a third")["media_id"] == sha(film(2))


def test_a_damaged_cache_is_fetched_again(server: MediaServer, place: Place) -> None:
    """The cached file and that of data/raw are one: an edit in place reaches both."""
    address = server.put("/film.mp4", film(1))
    row = place.one(address)
    (place.raw / Path(row["uri"]).name).write_bytes(film(7))
    (place.folder / ".goku/cache/downloads/known.sqlite-wal").unlink(missing_ok=True)
    row = place.one(address)
    assert row["media_id"] == sha(film(1))
    assert (place.raw / Path(row["uri"]).name).read_bytes() == film(1)
    for file in (place.folder / ".goku/cache/downloads").glob("known.sqlite*"):
        file.write_bytes(b"no database")
    assert place.one(address)["media_id"] == sha(film(1))


def test_too_many_unreachable_fail_the_stage_and_the_rest_is_kept(server: MediaServer, place: Place) -> None:
    addresses = [server.put(f"/{i}.mp4", film(i)) for i in range(6)]
    for i in (1, 2):
        server.pages[f"/{i}.mp4"].statuses = [503] * 3
    server.pages["/3.mp4"].statuses = [404] * 9
    with pytest.raises(ConnectionError, match=r"2 of 6 addresses .*2 http-503") as caught:
        place.report(addresses, unreachable_max=0.1)
    assert not isinstance(caught.value, GokuError), "so that a driver tries again"
    sent = server.sent
    rows = place.collect(addresses, unreachable_max=0.1)
    assert [row["outcome"] for row in rows.values()].count("kept") == 5
    assert rows[addresses[3]]["filter"] == "http-404", "a file that is not there is no unreachable one"
    assert server.sent == sent + 2 * 2000, "only what was missing came over the network"


def test_nothing_kept_is_one_clear_error(server: MediaServer, place: Place) -> None:
    with pytest.raises(GokuError, match=r"nothing of list.txt can be used: 1 address, 1 http-404; the first is .*/no"):
        place.report([server.url + "/no.mp4", "C:\\films\\a.mp4"])
    (place.folder / "empty.txt").write_text("# none yet\n")
    with pytest.raises(GokuError, match="it is empty"):
        place.report("empty.txt")
    with pytest.raises(GokuError, match="is not there"):
        place.report("nowhere.csv")


def test_same_table_for_any_number_of_threads(server: MediaServer, tmp_path: Path) -> None:
    addresses = [server.put(f"/{i}.mp4", film(i % 9)) for i in range(24)] + [server.url + "/no.mp4"]
    tables = []
    for threads in (1, 8):
        (tmp_path / str(threads)).mkdir()
        place = Place(tmp_path / str(threads))
        place.report(addresses, threads=threads)
        tables.append((place.raw.parent / "raw.parquet").read_bytes())
    assert tables[0] == tables[1]


def test_certificates_are_checked(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = tmp_path / "server.pem"
    certificate.write_bytes(_self_signed("localhost"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with media_server(context) as server:
        server.put("/film.mp4", film(1))
        address = f"https://localhost:{server.port}/film.mp4"
        row = place.one(address, allow_hosts=["localhost"])
        assert row["filter"] == "tls" and "self" in row["message"]
        monkeypatch.setattr(web, "_trusted", lambda: ssl.create_default_context(cafile=certificate))
        assert place.one(address, allow_hosts=["localhost"])["outcome"] == "kept"
        other = f"https://127.0.0.1:{server.port}/film.mp4"
        assert place.one(other)["filter"] == "tls", "the certificate is not one of that name"


def _self_signed(name: str) -> bytes:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, plain) + certificate.public_bytes(
        serialization.Encoding.PEM
    )
