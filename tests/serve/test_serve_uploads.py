"""First frames from several clients at once: the same picture, and a clearing away beside them."""

from __future__ import annotations

import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from goku_core.serve.limits import Limits
from goku_core.serve.orders import Upload
from goku_core.serve.uploads import PARTIAL, Uploads


def picture() -> bytes:
    made = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(made, "PNG")
    return made.getvalue()


def test_the_same_picture_from_eight_threads_at_once(tmp_path: Path) -> None:
    uploads, content = Uploads(tmp_path / "uploads", Limits()), picture()

    def send(_: int) -> list[Upload]:
        return [uploads.take(content) for _ in range(5)]

    with ThreadPoolExecutor(8) as threads:
        taken = [one for sent in threads.map(send, range(8)) for one in sent]
    assert len(taken) == 40 and len({one.id for one in taken}) == 1
    (file,) = (tmp_path / "uploads").iterdir()
    assert file.read_bytes() == content


def test_clearing_away_bears_a_file_that_another_thread_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(tmp_path, Limits(kept=0))
    kept, free = uploads.take(picture()).id, uploads.take(picture()).id
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([self / "gone.png", *listed(self)]))
    uploads.prune({kept})
    monkeypatch.undo()
    assert [path.stem for path in tmp_path.iterdir()] == [kept] != [free]


def test_what_is_being_written_is_left_alone_until_its_writer_must_be_dead(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, Limits(kept=0, kept_hours=0.0))
    written, left = tmp_path / f"{PARTIAL}a.png", tmp_path / f"{PARTIAL}b.png"
    for path in (written, left):
        path.touch()
    os.utime(left, (time.time() - 7200,) * 2)
    uploads.prune(())
    assert list(tmp_path.iterdir()) == [written]
