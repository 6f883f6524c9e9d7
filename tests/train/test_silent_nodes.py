"""Launchers that fall silent, without hosts: the signs of life, and a store that does not answer."""

from __future__ import annotations

import socket
import sys
import threading
import time

import pytest

from goku_core.train.launch.nodes import LeaderGone, Nodes, _interface_of


def pair(silence: float) -> tuple[Nodes, Nodes]:
    """Node 0 and node 1 of two, on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
    leader = Nodes(0, 2, endpoint, join_seconds=10, silence_seconds=silence)
    return leader, Nodes(1, 2, endpoint, join_seconds=10, silence_seconds=silence)


def test_a_launcher_without_signs_of_life_is_found_out_and_one_that_is_done_is_not(monkeypatch) -> None:
    monkeypatch.setattr("goku_core.train.launch.nodes.PUBLISH_SECONDS", 0.0)
    leader, follower = pair(silence=0.4)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        follower.publish(1, None)
        assert leader.silent(1, [0, 1]) is None
    time.sleep(0.5)
    node, seconds = leader.silent(1, [0, 1])
    assert node == 1 and 0.4 < seconds < 5
    assert leader.silent(1, [0]) is None, "only members count"
    follower.say("result/1/1", {})
    assert leader.silent(1, [0, 1]) is None, "it is done with this attempt"
    assert leader.silent(2, [0, 1]) is None, "the next attempt begins with patience"


def test_a_store_that_does_not_answer_is_given_up() -> None:
    leader, follower = pair(silence=0.3)
    follower.say("here", 1)
    assert leader.hear("here", 1.0) == 1 and not follower.unreachable
    stuck = threading.Event()
    follower._store = type("Stuck", (), {"check": lambda self, keys: stuck.wait(20)})()
    began = time.monotonic()
    with pytest.raises(LeaderGone):
        follower.heard("here")
    with pytest.raises(LeaderGone):
        follower.say("more", 1)
    assert time.monotonic() - began < 2 and follower.unreachable
    assert follower.has_failed(1), "without the leader the attempt has failed"
    stuck.set()


def test_nobody_at_the_endpoint_is_an_error_in_words() -> None:
    from goku_core.pipeline.errors import GokuError

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(GokuError, match="node 1 cannot reach node 0"):
        Nodes(1, 2, endpoint, join_seconds=0.5)


def test_a_name_that_is_not_known_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Node 0 too: a pod is there before its name is."""
    ask, asked = socket.getaddrinfo, []

    def late(*arguments: object, **more: object) -> object:
        asked.append(arguments)
        if len(asked) < 2:
            raise socket.gaierror(-2, "Name or service not known")
        return ask(*arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert Nodes(0, 2, f"127.0.0.1:{port}", join_seconds=20).leads and len(asked) >= 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel of Linux")
def test_the_interface_of_an_address() -> None:
    assert _interface_of("127.0.0.1") == "lo"
    assert _interface_of("192.0.2.77") is None, "an address of no machine"
