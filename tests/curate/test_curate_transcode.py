"""A repaired source has the same bytes every time: whatever later stages make of it is named by them."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from goku_core.curate.transcode import Transcoder
from goku_core.media.decode import frames
from goku_core.media.encode import write_video
from goku_core.scenes.draw import draw
from goku_core.scenes.scene import sample_scene


def test_transcoding_gives_the_same_bytes(tmp_path: Path) -> None:
    draws = np.random.default_rng(2)
    scene = sample_scene(np.random.default_rng(0), "motion")
    source = tmp_path / "source.mkv"
    write_video(source, (draw(scene, 96, 96, time=t / 24) for t in range(48)), 24, codec="mpeg4")
    seen = set()
    for number in range(10):
        junk = [np.frombuffer(draws.bytes(int(n)), np.uint8).copy() for n in draws.integers(1000, 400_000, 40)]
        del junk
        target = tmp_path / f"{number}.mp4"
        with Transcoder(target, Fraction(24)) as transcoder:
            for frame in frames(source):
                transcoder.add(frame)
        seen.add(target.read_bytes())
    assert len(seen) == 1
