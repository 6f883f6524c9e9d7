"""Renders recipes into real files with sidecar captions. An operator of the supervised pool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from goku_core.collect.request import SampleCorpus
from goku_core.collect.sample import GRAIN, Recipe, Shot, image_scene, video_shots
from goku_core.media.encode import write_image, write_video
from goku_core.scenes.draw import draw
from goku_core.scenes.grammar import prompt
from goku_core.scenes.scene import Motion

SCHEMA = pa.schema([("name", pa.string()), ("frames", pa.int64())])
# Grain leaves nothing for slower presets to find; the fastest is a third of the time at the same quality here.
PRESET = "ultrafast"
GRAIN_SHIFT = 64  # a frame's grain is a random window of one tile, pixels
SHAKE_SHARE = 80 / 480  # how far the camera is thrown, in heights
SHAKE_SECONDS = 0.5
TEXT_LINES = ("MEGA SALE TODAY", "50% OFF EVERYTHING", "CALL 555 0134 NOW")
NOT_MEDIA = "This is a note that somebody renamed. It is not a video.\n" * 40


def render(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """Operator: (name, recipe) -> (name, frames). Writes the file and its sidecar into ``settings["folder"]``.

    settings: folder, seed, and sample (a `SampleCorpus` as a dict).
    """
    sample = SampleCorpus.model_validate(settings["sample"])
    folder, seed = Path(settings["folder"]), int(settings["seed"])
    cv2.setNumThreads(1)
    frames = [
        render_file(folder / row["name"], Recipe(**json.loads(row["recipe"])), sample, seed)
        for row in batch.to_pylist()
    ]
    return pa.record_batch([batch.column("name"), pa.array(frames, pa.int64())], schema=SCHEMA)


def render_file(path: Path, recipe: Recipe, sample: SampleCorpus, seed: int) -> int:
    """Writes one file and, where it has one, its sidecar; returns the number of frames drawn."""
    if recipe.damage == "empty":
        path.write_bytes(b"")
        return 0
    if recipe.damage == "not-media":
        path.write_text(NOT_MEDIA)
        return 0
    if recipe.kind == "image":
        scene, text = image_scene(seed, recipe.index)
        picture = draw(scene, recipe.height, recipe.width)
        _add_grain(picture, recipe, seed, 0)
        write_image(path, picture, recipe.quality)
        path.with_suffix(".json").write_text(json.dumps({"caption": text}) + "\n")
        frames = 1
    else:
        shots = _shots(recipe, sample, seed)
        frames = write_video(
            path,
            _pictures(shots, recipe, seed),
            recipe.fps,
            bitrate_kbps=recipe.bitrate_kbps,
            preset=PRESET,
            codec=recipe.codec,
        )
        path.with_suffix(".json").write_text(json.dumps(_captions(shots, recipe.fps)) + "\n")
    if recipe.damage != "none":
        path.write_bytes(_damaged(path.read_bytes(), recipe.damage))
    return frames


def _shots(recipe: Recipe, sample: SampleCorpus, seed: int) -> list[Shot]:
    if recipe.shot_seconds is not None:
        sample = sample.model_copy(update={"shot_seconds": (recipe.shot_seconds, recipe.shot_seconds)})
    shots = video_shots(sample, seed, recipe.index, recipe.fps)[: recipe.shots]
    if recipe.effect in ("still", "shake"):
        still = [replace(shot.scene, motion=Motion()) for shot in shots]
        shots = [replace(shot, scene=s, caption=prompt(s)) for shot, s in zip(shots, still, strict=True)]
    return shots


def _captions(shots: list[Shot], fps: int) -> dict[str, object]:
    if len(shots) == 1:
        return {"caption": shots[0].caption}
    entries, start = [], 0
    for shot in shots:
        end = start + shot.frames
        entries.append({"start": round(start / fps, 6), "end": round(end / fps, 6), "text": shot.caption})
        start = end
    return {"captions": entries}


def _pictures(shots: list[Shot], recipe: Recipe, seed: int) -> Iterator[np.ndarray]:
    number = 0
    for shot in shots:
        for frame in range(shot.frames):
            time = frame / recipe.fps
            picture = draw(shot.scene, recipe.height, recipe.width, time)
            if recipe.effect == "shake":
                picture = _shaken(picture, time)
            elif recipe.effect == "text":
                _write_text(picture, shot, time)
            _add_grain(picture, recipe, seed, number)
            yield picture
            number += 1


def _add_grain(picture: np.ndarray, recipe: Recipe, seed: int, number: int) -> None:
    """Film grain, the same on all three channels, another window of the tile in every frame. In place."""
    if recipe.grain <= 0:
        return
    height, width = picture.shape[:2]
    tile = _grain_tile(seed, height, width, recipe.grain)
    y, x = np.random.default_rng([seed, GRAIN, recipe.index, number]).integers(0, GRAIN_SHIFT, 2)
    cv2.add(picture, tile[y : y + height, x : x + width], dst=picture, dtype=cv2.CV_8U)


@lru_cache(maxsize=2)
def _grain_tile(seed: int, height: int, width: int, sigma: float) -> np.ndarray:
    rng = np.random.default_rng([seed, GRAIN])
    noise = rng.standard_normal((height + GRAIN_SHIFT, width + GRAIN_SHIFT), dtype=np.float32) * sigma
    return cv2.merge([np.round(noise).astype(np.int16)] * 3)


def _shaken(picture: np.ndarray, time: float) -> np.ndarray:
    """The whole picture thrown to and fro; what comes in from outside is mirrored."""
    height, width = picture.shape[:2]
    angle = 2 * np.pi * time / SHAKE_SECONDS
    reach = SHAKE_SHARE * height
    matrix = np.array([[1, 0, reach * np.cos(angle)], [0, 1, 0.4 * reach * np.sin(2 * angle)]])
    return cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def _write_text(picture: np.ndarray, shot: Shot, time: float) -> None:
    """Large lines of text that travel with the first thing. In place."""
    height, width = picture.shape[:2]
    scale = height / 480
    now, begin = shot.scene.things_at(time)[0], shot.scene.things[0]
    left = round((0.10 * width) + 0.3 * (now.x - begin.x) * width)
    for line, text in enumerate(TEXT_LINES):
        place = (left, round((0.25 + 0.27 * line) * height + 0.3 * (now.y - begin.y) * height))
        for color, thickness in (((20, 20, 20), 9), ((250, 250, 250), 4)):
            cv2.putText(
                picture,
                text,
                place,
                cv2.FONT_HERSHEY_SIMPLEX,
                1.9 * scale,
                color,
                max(1, round(thickness * scale)),
                cv2.LINE_AA,
            )


def _damaged(data: bytes, damage: str) -> bytes:
    if damage == "truncated":
        return data[: len(data) * 55 // 100]
    if damage == "headless":
        return _without_box(data, b"moov")
    raise ValueError(f"unknown damage '{damage}'")


def _without_box(data: bytes, name: bytes) -> bytes:
    """An MP4 file without one of its top-level boxes (ISO/IEC 14496-12: 4 bytes of size, 4 of name)."""
    kept, at = b"", 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        if data[at + 4 : at + 8] != name:
            kept += data[at : at + size]
        at += size
    return kept
