"""Real curation of a few small files, with a file that can be made to kill, stall or flood whoever decodes it.

As a program (python small_footage.py WORKSPACE PLACE CORES TIMEOUT) it is a driver that a test can kill.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

POISON = "poison.mp4"
FILES = 9


def collected(workspace: Path) -> Path:
    """Films (one of them not H.264), pictures, one file that may turn poisonous; collected as `goku run collect` does."""
    import av

    from goku_core.collect import Request, run
    from goku_core.media.encode import write_image, write_video
    from goku_core.pipeline.context import Context
    from goku_core.scenes.draw import draw
    from goku_core.scenes.scene import sample_scene

    footage = workspace / "footage"
    footage.mkdir(parents=True)
    draws = np.random.default_rng(11)
    for number in range(4):
        scene = sample_scene(draws, "motion")
        name = POISON if number == 3 else f"film-{number}.mp4"
        write_video(footage / name, (draw(scene, 96, 176, time=t / 12) for t in range(24)), 12, crf=20)
    with av.open(str(footage / "older.avi"), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 176, 96, "yuv420p", 800_000
        scene = sample_scene(draws, "motion")
        for t in range(24):
            frame = av.VideoFrame.from_ndarray(np.asarray(draw(scene, 96, 176, time=t / 12)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for number in range(FILES - 5):
        write_image(footage / f"picture-{number}.jpg", draw(sample_scene(draws, "colors"), 96, 176))
    poison(workspace)
    run(Request(source="footage"), Context(workspace, workspace, workspace / "scratch-collect", cores=1))
    return workspace


def poison(workspace: Path, **what: Any) -> None:
    """deed: what becomes of a process that opens the poisonous file; seconds: a wait before each file; log: a file that
    gets a line "process uri" for each."""
    (workspace / "poison.json").write_text(json.dumps(what))


def curate(workspace: Path, place: Path, cores: int, timeout: float = 300.0) -> dict[str, str]:
    """The real stage on `collected` media. Outputs below ``place``/out, scratch in ``place``/scratch.

    Returns the SHA-256 of every published file.
    """
    from goku_core.curate import Request, funnel, run
    from goku_core.pipeline.context import Context

    funnel.OPERATOR = "small_footage:survey"
    gate = {"min_seconds": 1.0, "min_side": 64, "min_kbps": 0.0, "min_fps": 5.0}
    tier = {"min_side": 64, "ocr_max": 1.0, "motion_min": 0.0, "motion_max": 1000.0}
    request = Request.model_validate(
        {
            **{"gate": gate, "tiers": {"480p": tier}, "min_clip_seconds": 1.0, "memory_gigabytes": 1.5},
            **{"timeout_seconds": timeout},
        }
    )
    out = place / "out"
    run(request, Context(workspace, out, place / "scratch", cores=cores))
    return {
        file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(out.rglob("*"))
        if file.is_file()
    }


def survey(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """The real operator, after a look for poison."""
    from goku_core.curate.survey import survey as real

    told = json.loads((Path(settings["workspace"]) / "poison.json").read_text())
    for uri in batch.column("uri").to_pylist():
        if log := told.get("log"):
            with Path(log).open("a") as file:
                file.write(f"{os.getpid()} {uri}\n")
        time.sleep(told.get("seconds", 0.0))
        if uri.endswith(POISON):
            _do(told.get("deed", ""))
    return real(batch, settings)


def _do(deed: str) -> None:
    if deed == "segfault":
        ctypes.string_at(0)
    if deed == "hang":
        time.sleep(3600)
    if deed == "bomb":
        held = []
        while True:
            held.append(np.ones(64 << 20, np.uint8))


def main() -> None:
    workspace, place, cores, timeout = sys.argv[1:]
    print(json.dumps(curate(Path(workspace), Path(place), int(cores), float(timeout))))


if __name__ == "__main__":
    main()
