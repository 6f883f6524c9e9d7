"""Whatever curation can judge is taken in, from a folder by its name and from a download by its first bytes."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from goku_core.collect import Request, run
from goku_core.collect.download import magic
from goku_core.collect.listing import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from goku_core.curate.gate import judge
from goku_core.curate.request import Gate
from goku_core.media import decode
from goku_core.media.probe import probe
from goku_core.pipeline.context import Context

CODECS = {".webm": "libvpx-vp9", ".avi": "mpeg4", ".mpg": "mpeg2video", ".mpeg": "mpeg2video", ".vob": "mpeg2video"}
CODECS |= {".flv": "flv", ".ogv": "libvpx", ".3gp": "mpeg4"}
FRAMES, HEIGHT, WIDTH = 30, 64, 96
GATE = Gate(min_seconds=1.0, min_side=64, min_kbps=0, min_fps=20)


def film(path: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    ground = rng.integers(0, 255, (HEIGHT, WIDTH + FRAMES, 3), np.uint8)
    with av.open(str(path), "w", format={".ogv": "ogg", ".mts": "mpegts"}.get(path.suffix)) as container:
        stream = container.add_stream(CODECS.get(path.suffix, "libx264"), rate=24)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for index in range(FRAMES):
            image = np.ascontiguousarray(ground[:, index : index + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real file of every type, each with other content."""
    folder = tmp_path_factory.mktemp("types")
    for number, suffix in enumerate(VIDEO_SUFFIXES):
        film(folder / f"film{suffix}", number)
    rng = np.random.default_rng(99)
    for suffix in IMAGE_SUFFIXES:
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(folder / f"picture{suffix}")
    return folder


def test_a_folder_of_every_type_is_kept_and_can_be_judged(folder: Path, tmp_path: Path) -> None:
    run(Request(source=str(folder)), Context(tmp_path, tmp_path / "staging", tmp_path, cores=1))
    rows = pq.read_table(tmp_path / "staging/data/raw.parquet").to_pylist()
    assert {Path(row["uri"]).suffix for row in rows if row["outcome"] == "kept"} == {*VIDEO_SUFFIXES, *IMAGE_SUFFIXES}
    for row in rows:
        info = probe(row["uri"])
        assert info.kind == row["kind"] and judge(info, GATE) is None, row["uri"]
        if info.kind == "video":
            # A packet of a program stream may have no time of its own.
            assert len(list(decode.frames(row["uri"]))) in (FRAMES, FRAMES - 1), row["uri"]
        else:
            assert decode.read_image(row["uri"]).shape == (HEIGHT, WIDTH, 3)


def test_a_download_of_every_type_is_known_by_its_first_bytes(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        found = magic.suffix_of(path.read_bytes()[: magic.HEAD])
        assert found in (VIDEO_SUFFIXES if path.stem == "film" else IMAGE_SUFFIXES), path.name


@pytest.mark.parametrize("head", [b"", b"BMW: a letter about cars", b"G" + bytes(300), b"OggX", b"PK\x03\x04"])
def test_other_bytes_are_no_medium(head: bytes) -> None:
    assert magic.suffix_of(head) is None
