"""Some of the bad inputs of `goku bench fuzz`, through the real survey in the supervised pool."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.fuzz import surveyed
from benchmarks.measuring.spoiled import CHANGES, SOUND, corpus, written
from goku_core.media.faults import CLASSES

FILES = 44


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> tuple[list[tuple[str, str]], dict[str, tuple[str, str]]]:
    folder = tmp_path_factory.mktemp("spoiled")
    made = corpus(folder, FILES, seed=1)
    return made, surveyed(folder, [name for name, _ in made], workers=2)


def test_every_file_has_one_outcome_and_none_ends_the_run(outcomes) -> None:
    made, found = outcomes
    assert len(made) == len(found) == FILES and set(found) == {name for name, _ in made}
    assert set(CHANGES) <= {label for _, label in made}
    counted = Counter(outcome for outcome, _ in found.values())
    assert counted["failed"] > 5 and counted["rejected"] + counted["kept"] > 5


def test_failures_carry_a_known_class_and_nothing_is_quarantined(outcomes) -> None:
    """An exception that is no `MediaError` would be quarantined: a fault of ours, contained but not understood."""
    for name, (outcome, reason) in outcomes[1].items():
        assert outcome != "quarantined", f"{name}: {reason}"
        assert outcome != "failed" or reason in CLASSES, f"{name}: {reason}"


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    written_twice = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        corpus(tmp_path / name, 30, seed=3)
        written_twice.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written_twice[0] == written_twice[1] and len(written_twice[0]) == 30
    assert all(written(base, tmp_path) is not None for base in SOUND), "every sound base can be written here"
