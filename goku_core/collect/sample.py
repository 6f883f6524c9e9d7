"""What the sample corpus consists of: a list of recipes, a pure function of its settings and the seed.

Good files are drawn from the procedural world. The others are each spoiled in one way, as files in the wild are, so
that every branch of curation has something to do. Their names are neutral; the spoiled ones lie among the good.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import numpy as np

from goku_core.collect.request import SampleCorpus
from goku_core.scenes.grammar import caption
from goku_core.scenes.scene import Scene, sample_scene

# Purposes of random draws; every draw is a function of (seed, purpose, index).
VIDEO, IMAGE, NAMES, GRAIN = 1, 2, 3, 4

# Share of each task among images. Tasks with more combinations to learn get more.
IMAGE_TASKS = {
    "single_object": 0.10,
    "colors": 0.18,
    "two_object": 0.12,
    "color_attr": 0.20,
    "position": 0.24,
    "counting": 0.16,
}
ZOOM_SHARE = 0.25  # of shots; the others move

VIDEO_GRAIN = 3.5  # standard deviation in grey levels; gives good videos an honest bitrate, gone when downscaled
IMAGE_GRAIN = 1.5
JPEG_QUALITY = 88


@dataclass(frozen=True)
class Recipe:
    """One file to render.

    index   which good video or image its content is that of
    effect  what happens in the pictures: "none", "still", "shake", "text"
    damage  what happens to the bytes: "none", "truncated", "headless", "empty", "not-media"
    shots   how many shots at most; None: all
    grain   standard deviation in grey levels
    """

    kind: str
    index: int
    suffix: str
    height: int
    width: int
    fps: int = 0
    bitrate_kbps: int = 0
    codec: str = "libx264"
    shots: int | None = None
    shot_seconds: float | None = None
    effect: str = "none"
    damage: str = "none"
    grain: float = VIDEO_GRAIN
    quality: int = JPEG_QUALITY

    def as_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Shot:
    scene: Scene
    frames: int
    caption: str


def video_shots(sample: SampleCorpus, seed: int, index: int, fps: int) -> list[Shot]:
    """The shots of good video ``index``; hard cuts, each on a ground clearly unlike the one before."""
    rng = np.random.default_rng([seed, VIDEO, index])
    shots: list[Shot] = []
    ground = None
    for _ in range(int(rng.integers(sample.shots_per_video[0], sample.shots_per_video[1] + 1))):
        frames = round(float(rng.uniform(*sample.shot_seconds)) * sample.fps)
        seconds = frames / sample.fps
        task = "zoom" if rng.uniform() < ZOOM_SHARE else "motion"
        scene = sample_scene(rng, task, seconds=seconds, unlike=ground)
        ground = scene.background
        shots.append(Shot(scene, round(seconds * fps), caption(rng, scene)))
    return shots


def image_scene(seed: int, index: int) -> tuple[Scene, str]:
    """Scene and caption of good image ``index``."""
    rng = np.random.default_rng([seed, IMAGE, index])
    task = str(rng.choice(list(IMAGE_TASKS), p=list(IMAGE_TASKS.values())))
    scene = sample_scene(rng, task)
    return scene, caption(rng, scene)


def corpus(sample: SampleCorpus, seed: int) -> list[tuple[str, Recipe]]:
    """(file name, recipe) of the whole corpus, videos first, by name."""
    video = Recipe("video", 0, ".mp4", sample.height, sample.width, sample.fps, sample.bitrate_kbps)
    image = Recipe("image", 0, ".jpg", sample.height, sample.width, grain=IMAGE_GRAIN)
    videos = [replace(video, index=i) for i in range(sample.videos)]
    images = [replace(image, index=i) for i in range(sample.images)]
    if sample.bad_files:
        videos += spoiled_videos(video, sample)
        if images:
            images += spoiled_images(image, sample)
    return _named("vid", videos, seed) + _named("img", images, seed)


def spoiled_videos(video: Recipe, sample: SampleCorpus) -> list[Recipe]:
    """One video per reason to reject, repair or fail it. Their contents are fresh, except for the duplicates'."""
    low = max(100, video.bitrate_kbps // 4)
    changes: list[dict[str, object]] = [
        {"shots": 1, "shot_seconds": 3.0},  # too short
        {"height": _even(sample.height * 0.75), "width": _even(sample.width * 0.75)},  # too small
        {"bitrate_kbps": low, "grain": 0.0},  # low bitrate
        {"fps": 15},  # too few frames per second
        {"shots": 1, "shot_seconds": 5.0, "effect": "still"},
        {"shots": 1, "shot_seconds": 5.0, "effect": "shake", "bitrate_kbps": 3 * video.bitrate_kbps},
        {"shots": 2, "effect": "text"},
        {"damage": "truncated"},  # the header is there, the second half is not
        {"damage": "headless"},  # cut off before the header was written
        {"shots": 1, "damage": "empty"},
        {"shots": 1, "damage": "not-media"},
        {"codec": "libx265", "shots": 2},  # to be transcoded
        {"codec": "mpeg4", "suffix": ".mkv", "shots": 2, "bitrate_kbps": 2 * video.bitrate_kbps},  # likewise
    ]
    fresh = [replace(video, index=sample.videos + i, **change) for i, change in enumerate(changes)]
    # The same content again: other size and bitrate (near-duplicate), same bytes under another name (exact).
    again = {"height": _even(sample.height * 1.125), "width": _even(sample.width * 1.125)}
    near = replace(video, index=0, bitrate_kbps=round(0.8 * video.bitrate_kbps), **again)
    return [*fresh, near, replace(video, index=sample.videos - 1)]


def spoiled_images(image: Recipe, sample: SampleCorpus) -> list[Recipe]:
    """Too small, truncated, empty, a near-duplicate, an exact duplicate."""
    small = {"height": _even(sample.height * 0.375), "width": _even(sample.width * 0.375)}
    again = {"height": _even(sample.height * 1.125), "width": _even(sample.width * 1.125), "quality": 75}
    return [
        replace(image, index=sample.images, **small),
        replace(image, index=sample.images + 1, damage="truncated"),
        replace(image, index=sample.images + 2, damage="empty"),
        replace(image, index=0, **again),
        replace(image, index=sample.images - 1),
    ]


def _named(prefix: str, recipes: list[Recipe], seed: int) -> list[tuple[str, Recipe]]:
    """Numbers them in a shuffled order: where a file stands says nothing about it."""
    order = np.random.default_rng([seed, NAMES, len(recipes)]).permutation(len(recipes))
    digits = max(4, len(str(len(recipes))))
    return [(f"{prefix}_{n + 1:0{digits}d}{recipes[i].suffix}", recipes[i]) for n, i in enumerate(order)]


def _even(value: float) -> int:
    return 2 * round(value / 2)
