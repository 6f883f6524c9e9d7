"""Addresses that strangers wrote: what may be asked, what is written down, and what is never connected to."""

from __future__ import annotations

import ipaddress

import pytest

from goku_core.collect.download.address import Policy, check, is_public, public, web
from goku_core.collect.download.answer import Failure
from goku_core.collect.download.cache import name_of


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a00:1::",
    ],
)
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_of_the_internet_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


# Forms by which filters that look at the text of an address have been passed.
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "::1", "0"])
def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(Failure) as caught:
        Policy().addresses(host, 80)
    assert caught.value.error_class == "refused-address" and not caught.value.passing
    assert "collect.download.allow_hosts" in caught.value.message


def test_what_is_allowed_is_allowed_and_nothing_beside_it() -> None:
    assert Policy.of(["LocalHost"]).addresses("localhost", 80)
    assert Policy.of(["127.0.0.0/8"]).addresses("127.0.0.1", 80) == ["127.0.0.1"]
    for allowed in (["localhost"], ["10.0.0.0/8"], ["::1"]):
        with pytest.raises(Failure, match=r"127\.0\.0\.1"):
            Policy.of(allowed).addresses("127.0.0.1", 80)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "films/a.mp4",
        "file:///etc/passwd",
        "ftp://host/a.mp4",
        "gopher://host/a",
        "http://",
        "http://user:secret@host/a.mp4",
        "http://host:99999/a",
        "http://host:0/a",
        "http://[::1/a",
        "http://host/a\r\nX-Injected: 1",
        "http://host/\x00",
        "s3://",
        "s3://bucket",
        "s3://bucket/folder/",
        "s3://../key",
    ],
)
def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    with pytest.raises(Failure) as caught:
        check(url)
    assert caught.value.error_class == "address"
    assert "secret" not in caught.value.message


def test_spaces_and_letters_of_all_languages_are_encoded() -> None:
    place = web("https://müller.example/ä b.mp4?q=ü%20x")
    assert place.target == "/%C3%A4%20b.mp4?q=%C3%BC%20x"
    assert (place.host, place.port) == ("müller.example", 443)
    check("https://müller.example/ä b.mp4")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "https://h/a.mp4?X-Amz-Signature=1&X-Amz-Date=5&X-Amz-Credential=k",
            "https://h/a.mp4?X-Amz-Signature=2&X-Amz-Date=6",
        ),
        ("https://h/a.mp4?id=7&Expires=1&Signature=x&Key-Pair-Id=k", "https://h/a.mp4?id=7&Expires=2&Signature=y"),
        ("https://h/a.mp4?sv=2024&se=1&sig=abc", "https://h/a.mp4?sv=2025&se=2&sig=def"),
    ],
)
def test_signatures_are_not_written_down_and_do_not_make_another_file(one: str, other: str) -> None:
    assert public(one) == public(other)
    assert "ignature" not in public(one) and "sig=" not in public(one)


def test_what_names_the_file_stays() -> None:
    assert public("https://h/a.mp4?id=7&Signature=x") != public("https://h/a.mp4?id=8&Signature=x")
    assert public("https://h/a?expires=never&v=1") == "https://h/a?expires=never&v=1", (
        "not signed: nothing is taken away"
    )
    assert public("https://u:secret@h:81/a") == "https://h:81/a"


@pytest.mark.parametrize(
    "address", ["https://h/../../etc/passwd", "https://h/..", "https://h/" + "a" * 5000, "https://h/a\udcff"]
)
def test_names_of_files_come_from_digests(address: str) -> None:
    assert len(name_of(address)) == 64 and name_of(address).isalnum()
