from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from goku_core.pipeline.errors import GokuError
from goku_core.promote import ledger, promotion, registry
from goku_core.promote.ledger import Draft, Entry


def draft(bundle: str, decision: str = "promoted", against: str | None = None) -> Draft:
    return Draft(
        decision=decision,
        bundle=bundle,
        champion=bundle,
        against=against,
        score=0.5,
        interval=(0.4, 0.6),
        protocol=None,
        evidence="e",
        reason="r",
    )


def write(workspace: Path, *drafts: Draft) -> list[Entry]:
    for one in drafts:
        ledger.append(workspace, lambda entries, one=one: one)
    return ledger.read(workspace)


def test_entries_are_numbered_and_chained(tmp_path: Path) -> None:
    entries = write(tmp_path, draft("a"), draft("b"), draft("a", "refused"))
    assert [entry.number for entry in entries] == [1, 2, 3]
    assert [entry.version for entry in entries] == [1, 2, 1], "a version names a bundle, not a decision"
    assert entries[0].previous is None and entries[1].previous != entries[2].previous
    assert not list((tmp_path / "ledger").glob(".entry-*")), "no partial file stays"


def test_edited_entry_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, draft("a"), draft("b"))
    first = tmp_path / "ledger/000001.json"
    first.chmod(0o644)
    first.write_text(first.read_text().replace("0.5", "0.9"))
    with pytest.raises(GokuError, match="changed after it had been written"):
        ledger.read(tmp_path)
    assert len(ledger.read(tmp_path, verify=False)) == 2


def test_removed_entry_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, draft("a"), draft("b"), draft("c"))
    (tmp_path / "ledger/000002.json").unlink()
    with pytest.raises(GokuError, match="entry 2 of the ledger is missing"):
        ledger.read(tmp_path)


def test_truncated_entry_is_an_error_not_an_empty_ledger(tmp_path: Path) -> None:
    write(tmp_path, draft("a"))
    path = tmp_path / "ledger/000001.json"
    path.chmod(0o644)
    path.write_text("")
    with pytest.raises(GokuError, match="not a ledger entry"):
        ledger.read(tmp_path)


def test_writers_at_once_each_get_a_number_and_see_the_others(tmp_path: Path) -> None:
    seen: list[int] = []

    def add(name: str) -> None:
        def decide(entries: list[Entry]) -> Draft:
            seen.append(len(entries))
            return draft(name)

        ledger.append(tmp_path, decide)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, [f"bundle {n}" for n in range(8)]))
    entries = ledger.read(tmp_path)
    assert [entry.number for entry in entries] == list(range(1, 9))
    assert {entry.bundle for entry in entries} == {f"bundle {n}" for n in range(8)}
    assert set(range(8)) <= set(seen), "each entry was decided with all earlier ones in view"


def test_line_of_champions_follows_rollbacks(tmp_path: Path) -> None:
    def names() -> list[str]:
        return [entry.bundle for entry in ledger.champions(ledger.read(tmp_path))]

    write(tmp_path, draft("a"), draft("b"), draft("c"), draft("x", "refused"))
    assert names() == ["a", "b", "c"]
    write(tmp_path, draft("b", "rolled-back", "c"))
    assert names() == ["a", "b"]
    write(tmp_path, draft("a", "rolled-back", "b"))
    assert names() == ["a"]
    write(tmp_path, draft("c", "rolled-back", "a"))
    assert names() == ["a", "c"], "a rollback may also bring back what an earlier one had cut off"
    assert ledger.roles(ledger.read(tmp_path)) == {"champion": "c", "previous": "a", "challenger": None}


def test_entry_file_is_plain_json(tmp_path: Path) -> None:
    write(tmp_path, draft("a"))
    entry = json.loads((tmp_path / "ledger/000001.json").read_text())
    assert {"number", "previous", "decision", "bundle", "score", "interval", "evidence", "time", "by", "reason"} <= set(
        entry
    )


def test_the_champion_is_called_so_whatever_its_alias_in_mlflow_is(tmp_path: Path) -> None:
    write(tmp_path, draft("a"), draft("b"), draft("c", "refused"))
    entries = ledger.read(tmp_path)
    assert promotion.named(entries, "champion", "production") == "b"
    assert promotion.named(entries, "production", "production") == "b", "what MLflow calls it is understood as well"
    with pytest.raises(GokuError, match="Known: champion, previous"):
        promotion.named(entries, "staging", "production")
    assert registry._aliases(entries, "production") == {"production": "b", "previous": "a", "challenger": "c"}
