"""Some of the bad inputs of `goku bench fuzz`, through the real survey in the supervised pool."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.fuzz import surveyed
from benchmarks.measuring.spoiled import CHANGES, corpus
from goku_core.media.faults import CLASSES

FILES = 44


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> tuple[Path, list[tuple[str, str]], dict[str, tuple[str, str]]]:
    folder = tmp_path_factory.mktemp("spoiled")
    made = corpus(folder, FILES, seed=1)
    return folder, made, surveyed(folder, [name for name, _ in made], workers=2)


def test_every_file_has_one_outcome_and_none_ends_the_run(outcomes) -> None:
    _, made, found = outcomes
    assert len(made) == len(found) == FILES and set(found) == {name for name, _ in made}
    assert set(CHANGES) <= {label for _, label in made}
    counted = Counter(outcome for outcome, _ in found.values())
    assert counted["failed"] > 5 and counted["rejected"] + counted["kept"] > 5


def test_failures_carry_a_known_class_and_nothing_is_quarantined(outcomes) -> None:
    """An exception that is no `MediaError` would be quarantined: a fault of ours, contained but not understood."""
    for name, (outcome, reason) in outcomes[2].items():
        assert outcome != "quarantined", f"{name}: {reason}"
        assert outcome != "failed" or reason in CLASSES, f"{name}: {reason}"


def test_the_same_seed_gives_the_same_files(outcomes, tmp_path: Path) -> None:
    made = corpus(tmp_path, FILES, seed=1)
    assert made == outcomes[1]
    assert all((tmp_path / name).read_bytes() == (outcomes[0] / name).read_bytes() for name, _ in made)
