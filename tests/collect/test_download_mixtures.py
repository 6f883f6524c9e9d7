"""Whatever a server does between connections, what is kept is one version of the file, never a mixture of two."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_server import MediaServer, Page, film, media_server

from goku_core.collect.download.answer import Failure
from goku_core.collect.download.cache import Cache
from goku_core.collect.download.fetch import Fetcher, Wanted
from goku_core.collect.request import Download

SIZE = 3000


@pytest.fixture(scope="module")
def server() -> Iterator[MediaServer]:
    with media_server() as running:
        yield running


def version(number: int, size: int) -> bytes:
    return film(number, 64) + random.Random(number).randbytes(size - 64)


behaviour = st.fixed_dictionaries(
    {
        "content": st.builds(version, st.integers(0, 2), st.sampled_from([SIZE, SIZE, SIZE // 2, SIZE * 2])),
        "cut_after": st.none() | st.integers(0, SIZE * 2),
        "ranges": st.booleans(),
        "announced": st.sampled_from([None, None, -1]),
        "statuses": st.sampled_from([[], [], [503], [500, 429]]),
    }
)


def endless(page: Page) -> bool:
    """Nothing tells where the file ends: what came is a beginning of one version, or too little to be told from noise."""
    return page.announced == -1 and page.cut_after is not None


@settings(max_examples=40, deadline=None, database=None)
@given(st.lists(behaviour, min_size=1, max_size=5), st.booleans())
def test_never_a_mixture(server: MediaServer, steps: list[dict], with_validators: bool) -> None:
    """One step is one attempt of the stage; the server changes its mind between them. The last one serves well."""
    settings = Download(retries=1, backoff_seconds=0, allow_hosts=["127.0.0.1"])
    steps = [*steps, {"content": steps[-1]["content"]}]
    with tempfile.TemporaryDirectory() as folder, Cache.opened(Path(folder)) as cache:
        fetched = None
        for attempt, step in enumerate(steps):
            step = {name: list(value) if name == "statuses" else value for name, value in step.items()}
            page = server.pages["/film.mp4"] = Page(**step, etag=None if with_validators else "")
            try:
                fetched = Fetcher(settings, cache, f"work {attempt}", lambda _: None).fetch(
                    Wanted(server.url + "/film.mp4")
                )
            except Failure as failure:
                assert failure.passing or endless(page), failure.message
                continue
            if endless(page):
                assert page.content.startswith(fetched.path.read_bytes())
            else:
                assert fetched.path.read_bytes() == page.content
        assert fetched is not None and fetched.path.read_bytes() == steps[-1]["content"]
        assert fetched.sha256 == hashlib.sha256(steps[-1]["content"]).hexdigest()
