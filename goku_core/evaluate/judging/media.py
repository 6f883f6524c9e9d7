"""The files of an evaluation: where a sample lies, its digest, its frames. The one place where samples are decoded.

    samples/<sample_id>.*   a picture, a clip, or uint8 RGB as .npy: (H, W, 3) or (T, H, W, 3)
    given/<sample_id>.png   the picture that a clip was to continue, where there was one

The given picture belongs to the plan: its digest stands in the metadata of the sample ("first_frame").
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from goku_core.evaluate.judges.judge import Seen
from goku_core.evaluate.manifest import Sample
from goku_core.pipeline.errors import GokuError

SAMPLES, GIVEN = "samples", "given"
ARRAY = ".npy"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
CLIPS = (".mp4", ".webm", ".mov", ".mkv")
FIRST_FRAME = "first_frame"


def files(folder: Path, samples: list[Sample]) -> dict[str, Path]:
    """Sample id -> its file, for those that have one. Raises GokuError where a sample has two."""
    there: dict[str, Path] = {}
    wanted = {sample.sample_id for sample in samples}
    for path in sorted((folder / SAMPLES).glob("*")):
        if path.suffix in (ARRAY, *PICTURES, *CLIPS) and path.stem in wanted:
            if path.stem in there:
                raise GokuError(f"{path.name} and {there[path.stem].name} are one sample: remove the wrong file")
            there[path.stem] = path
    return there


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def look_at(sample: Sample, path: Path, digest: str) -> Seen:
    """Decodes a sample. Raises `MediaError` where it does not decode, GokuError where it is not what the manifest says."""
    given = _given(sample, path.parents[1] / GIVEN / f"{sample.sample_id}.png")
    frames, fps = _frames(sample, path)
    if sha256(path) != digest:
        raise GokuError(f"{path.name} changed while it was being judged: judge again")
    return Seen(sample, frames, fps, digest, given)


def pixels_digest(picture: np.ndarray) -> str:
    """Of what is shown, whatever the file's format: SHA-256 over the shape and the bytes of uint8 (H, W, 3)."""
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


def _frames(sample: Sample, path: Path) -> tuple[np.ndarray, float]:
    if path.suffix == ARRAY:
        frames, fps = _array(path), sample.drawing.fps or 0.0
        frames = frames[None] if sample.media == "image" else frames
    elif path.suffix in PICTURES:
        from goku_core.media.decode import read_image

        frames, fps = read_image(path)[None], 0.0
    else:
        frames, fps = _video(path)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise GokuError(f"{path.name} holds {frames.dtype} {frames.shape[1:]}: not uint8 RGB")
    if sample.media == "image" and len(frames) != 1:
        raise GokuError(f"{path.name} has {len(frames)} frames, but the manifest says that it is a picture")
    if sample.media == "video" and not fps:
        raise GokuError(f"{path.name} does not say how many frames a second it has, and the manifest (fps) neither")
    return frames, fps


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise GokuError(f"{path.name} is no array that can be read: {error}") from error


def _video(path: Path) -> tuple[np.ndarray, float]:
    """All frames, and the rate that the container claims: what VBench's dynamic degree goes by."""
    from goku_core.media import decode
    from goku_core.media.probe import open_container, video_stream

    with open_container(path) as container:
        stream = video_stream(container)
        rate = stream.average_rate or stream.guessed_rate
    return np.stack([frame.rgb() for frame in decode.frames(path)]), float(rate or 0)


def _given(sample: Sample, path: Path) -> np.ndarray | None:
    planned = sample.prompt.metadata.get(FIRST_FRAME)
    if not path.is_file():
        return None
    from goku_core.media.decode import read_image

    picture = read_image(path)
    if planned is not None and pixels_digest(picture) != planned:
        raise GokuError(f"given/{path.name} is not the picture that was planned: its digest is another")
    return picture
