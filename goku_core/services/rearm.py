"""A server that was away has heard no heartbeats: before it starts again, every run that it watches gets its time anew.

Prefect keeps in its database until when it expects each run's next sign of life. Without this, a server that was down for
longer would call all living runs dead as it comes up; if these rows were removed, those that died meanwhile would never be
missed. A run that lives sends a heartbeat within the time given, one that died does not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

DATABASE = ".goku/prefect/prefect.db"
COMES_UP_SECONDS = 60.0  # until a server on a busy machine hears its runs again


def rearm(workspace: Path, silence: float, tell: Callable[[str], None]) -> int:
    """Expect the next sign of every watched run `silence` s after the server is up again. How many there are.

    The server must not run. One with a database elsewhere (Postgres) is not looked after here.
    """
    file = workspace / DATABASE
    if not file.is_file():
        return 0
    until = f"+{silence + COMES_UP_SECONDS} seconds"
    try:
        with sqlite3.connect(file, timeout=5.0) as database:
            moved = "UPDATE automation_bucket SET \"end\" = strftime('%Y-%m-%d %H:%M:%f000', 'now', ?)"
            return database.execute(moved, (until,)).rowcount
    except sqlite3.Error as error:
        tell(
            f"{DATABASE}: {error}. A run that lives may be shown as crashed until it ends; its work goes on all the same"
        )
        return 0
