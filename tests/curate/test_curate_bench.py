"""The benchmarks of curation at tiny sizes: do they count what they say they count?"""

import json
import re
import sys
from itertools import pairwise

import pytest

from benchmarks import curate, shots
from benchmarks.measuring import cpu
from benchmarks.measuring.films import TICKS, Film, Truth
from goku_core.media import decode


def test_films_are_the_same_twice_and_show_their_boundaries(tmp_path) -> None:
    film = Film("cut", 1, 2, 144, 256)
    (truth,) = film.write(tmp_path / "a.mp4")
    assert film.write(tmp_path / "b.mp4") == [truth]
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    frames = {frame.pts: frame.rgb().astype(int) for frame in decode.frames(tmp_path / "a.mp4")}
    times = sorted(frames)
    changes = {b: abs(frames[b] - frames[a]).mean() for a, b in pairwise(times)}
    assert max(changes, key=changes.get) == truth.start == truth.end


def test_a_boundary_is_found_once_and_all_else_is_wrong() -> None:
    tally = shots.Tally()
    tally.add([Truth(0, 0), Truth(2 * TICKS, 3 * TICKS)], [0.04, 2.5, 2.6, 9.0])
    assert (tally.right, tally.said, tally.true) == (2, 4, 2)
    assert (tally.precision, tally.recall) == (0.5, 1.0) and tally.f1 == pytest.approx(2 / 3)
    assert shots.Tally().f1 == 0


def test_shots_compares_with_the_best_detector(tmp_path) -> None:
    result = shots.main(["--small", "--device", "cpu", "--classes", "dissolve", "--out", str(tmp_path)])
    by_side = {row["side"]: row["f1"] for row in result.rows}
    assert set(by_side) == {*shots.peers(), shots.OURS, shots.UNREFINED}
    (ratio,) = result.ratios
    assert by_side[ratio["against"]] == max(by_side[name] for name in shots.peers())
    assert by_side[shots.OURS] == 1.0


def test_curate_counts_decodes_and_measures_both_sides(tmp_path) -> None:
    result = curate.main(["--small", "--device", "cpu", "--parts", "survey", "--out", str(tmp_path)])
    assert any(re.match(r"decodes per source second: 1\.000 ", note) for note in result.notes)
    assert "H.264 sources encoded again: 0" in result.notes
    rows = {row["side"]: row for row in result.rows}
    assert set(rows) == {curate.DECODE, curate.SURVEY, curate.READING}
    percent = 100 * (rows["survey"]["median_s"] / rows["bare decode"]["median_s"] - 1)
    assert rows["survey"]["above_decode_percent"] == pytest.approx(percent)
    assert len(json.loads(next(tmp_path.glob("*.json")).read_text())["ratios"]) == 2


def test_the_cost_of_a_command_counts_its_children(tmp_path) -> None:
    child = "sum(i * i for i in range(2_000_000)); held = bytearray(80 << 20); held[::4096] = b'x' * (20 << 10)"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child + '; import time; time.sleep(0.3)'!r}])"
    )
    cost = cpu.of_command([sys.executable, "-c", parent], tmp_path)
    assert cost.cpu > 0.05 and cost.wall > 0.3
    assert cost.peak_mib is not None and cost.peak_mib > 80
