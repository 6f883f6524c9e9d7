"""Media that several rooms' tests read: a few real files with the table that curation would have written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

# Two processes of a test run share two cores: threads of one would wait for those of the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def kept_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with data/raw (pictures and clips of scenes) and data/clips.parquet (all kept but one)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from goku_core.media.encode import write_image, write_video
    from goku_core.media.probe import probe
    from goku_core.scenes.draw import draw
    from goku_core.scenes.grammar import prompt
    from goku_core.scenes.scene import sample_scene

    workspace = tmp_path_factory.mktemp("kept")
    raw = workspace / "data/raw"
    raw.mkdir(parents=True)
    (workspace / "data/transcoded").mkdir()
    draws, rows = np.random.default_rng(7), []
    for number in range(14):
        clip = number >= 10
        scene = sample_scene(draws, "motion" if clip else "colors")
        path = raw / (f"{number:02d}.mp4" if clip else f"{number:02d}.jpg")
        end, base = 0, None
        if clip:
            write_video(path, (draw(scene, 96, 176, time=t / 24) for t in range(60)), 24, crf=18)
            base = probe(path).time_base
            end = int(2.5 / base)
        else:
            write_image(path, draw(scene, 96, 176))
        media_id = f"{number:064x}"
        row = {"clip_id": f"{media_id}:0-{end}", "media_id": media_id, "uri": path.relative_to(workspace).as_posix()}
        row |= {"kind": "video" if clip else "image", "start_pts": 0, "end_pts": end, "caption": prompt(scene)}
        row["text"] = f"{row['caption']}. motion: 3" if clip else row["caption"]
        row |= {"seconds": 2.5 if clip else None, "outcome": "rejected" if number == 3 else "kept"}
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), workspace / "data/clips.parquet")
    return workspace
