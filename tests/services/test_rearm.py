"""Before a server starts again its watched runs get their time anew; a database that cannot be read is told."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from goku_core.services.rearm import COMES_UP_SECONDS, DATABASE, rearm


def database(workspace: Path) -> Path:
    file = workspace / DATABASE
    file.parent.mkdir(parents=True)
    return file


def test_every_watched_run_is_expected_later(tmp_path: Path) -> None:
    """The table as Prefect 3.8 makes it; that its server reads what is written is tested with a real one."""
    old = "2026-01-01 00:00:00.000000"
    with sqlite3.connect(database(tmp_path)) as store:
        store.execute('CREATE TABLE automation_bucket (id CHAR(36), start DATETIME NOT NULL, "end" DATETIME NOT NULL)')
        store.executemany("INSERT INTO automation_bucket VALUES (?, ?, ?)", [("a", old, old), ("b", old, old)])
    told: list[str] = []
    before = datetime.now(UTC).replace(tzinfo=None)
    assert rearm(tmp_path, 90.0, told.append) == 2
    with sqlite3.connect(tmp_path / DATABASE) as store:
        rows = store.execute('SELECT start, "end" FROM automation_bucket').fetchall()
    for start, end in rows:
        assert start == old
        until = datetime.strptime(end, "%Y-%m-%d %H:%M:%S.%f")
        assert abs(until - before - timedelta(seconds=90 + COMES_UP_SECONDS)) < timedelta(seconds=5)
    assert told == []


def test_none_yet_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    told: list[str] = []
    assert rearm(tmp_path, 90.0, told.append) == 0 and told == []
    database(tmp_path).write_bytes(b"this is no database" * 100)
    assert rearm(tmp_path, 90.0, told.append) == 0
    assert "not a database" in told[0] and "its work goes on" in told[0]
