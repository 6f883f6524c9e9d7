"""One real `goku up` for all tests here: both servers and a worker, in a workspace whose first cell takes seconds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from served_workspace import Begun, small_workspace


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    place = Begun(small_workspace(tmp_path_factory.mktemp("services") / "w"))
    try:
        both = [
            subprocess.Popen(
                [*place.command("up"), "--json"],
                cwd=place.folder,
                env=place.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in both:
            out, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
            place.answers.append(json.loads(out))
        yield place
    finally:
        place.goku("down", "--grace", "5")
