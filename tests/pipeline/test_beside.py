"""The small files beside outputs are written by whoever answers, also by two at once."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from goku_core.pipeline.versions import beside


def test_two_runs_of_one_cell_do_not_take_each_others_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With different changes they have different fingerprints, and so hold different locks."""
    values = [{"cell": "a", "report": {"n": n}, "seconds": 1.0, "outputs": {}} for n in (1, 2)]
    both, write, failed = threading.Barrier(2, timeout=10), Path.write_text, []

    def write_text(path: Path, *arguments: str, **keys: str) -> int:
        count = write(path, *arguments, **keys)
        both.wait()  # both have written, neither has renamed
        return count

    def answer(value: dict[str, object]) -> None:
        try:
            beside.write(tmp_path, value)
        except FileNotFoundError as error:
            failed.append(error)
            both.abort()
        except threading.BrokenBarrierError:
            pass

    monkeypatch.setattr(Path, "write_text", write_text)
    threads = [threading.Thread(target=answer, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert json.loads((tmp_path / "records/a.json").read_text()) in values
    assert len(list(tmp_path.rglob("*.tmp"))) == 0
