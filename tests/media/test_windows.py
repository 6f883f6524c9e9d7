"""Several windows of a clip from one decode: the frames of each are those of reading it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from goku_core.media import decode
from goku_core.media.decode import read_clip, read_windows, stream_clip
from goku_core.media.encode import write_video
from goku_core.media.probe import probe


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """48 frames at 24 a second, each of its own brightness; path and ticks of two seconds."""
    path = tmp_path_factory.mktemp("windows") / "clip.mp4"
    write_video(path, (np.full((32, 48, 3), 5 * number, np.uint8) for number in range(48)), 24, crf=8)
    return path, int(2 / probe(path).time_base)


@pytest.mark.parametrize("firsts", [[0.0], [0.0, 0.4, 0.8], [1.3, 0.2], [0.5, 0.5], [0.0, 1.9]])
def test_each_window_is_what_reading_it_alone_gives(clip, monkeypatch, firsts: list[float]) -> None:
    path, end = clip
    alone = [read_clip(path, 0, end, 12.0, 9, 32, 48, first=first) for first in firsts]
    assert max(len(frames) for frames in alone) == 9
    decodes, plain = [], decode.frames
    monkeypatch.setattr(decode, "frames", lambda *given: decodes.append(given) or plain(*given))
    together = read_windows(path, 0, end, 12.0, 9, 32, 48, firsts)
    assert len(decodes) == 1 and len(together) == len(firsts)
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(np.stack(list(stream_clip(path, 0, end, 12.0, 9, 32, 48, first=firsts[0]))), alone[0])
