"""What to draw: one order per file. From a prompt, or from a file of prompts; drawn in pieces, each file whole or absent.

A file of prompts has one prompt per line, or one JSON object per line (also both): `prompt`, and where wanted `seed`,
`negative`, `image` (first picture of a clip, relative to the file of prompts) and `out` (relative to the folder of
results). Other keys are left alone, so that lists of GenEval and the like can be used as they are.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from goku_core.media.provenance import CLIPS, PICTURES, Provenance, read_provenance, write_clip, write_picture
from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    import numpy as np

    from goku_core.generate import Generator
    from goku_core.media.credentials import Signer

MOST_SEED = 2**63 - 1  # what JSON, CBOR and every reader of provenance can hold
PIECE_PIXELS = 2**23  # drawn between two writes: what a kill loses, and what lies in memory (24 MB)
PIECE_SAMPLES = 64
LEAST_FRAMES = 5  # of a clip: a first frame and one group of four


class Line(BaseModel):
    """One line of a file of prompts."""

    model_config = ConfigDict(extra="allow", strict=True)

    prompt: str = Field(min_length=1)
    seed: int | None = Field(default=None, ge=0, le=MOST_SEED)
    negative: str | None = None
    image: str | None = None
    out: str | None = None


@dataclass(frozen=True)
class Order:
    """One file to write. image: the given first picture of a clip."""

    prompt: str
    seed: int
    out: Path
    negative: str | None = None
    image: Path | None = None


@dataclass(frozen=True)
class Terms:
    """What all orders of one call share; meanings as in `Provenance`."""

    model: str
    height: int
    width: int
    frames: int
    steps: int
    guidance: float
    fps: float | None = None
    image_guidance: float | None = None
    upscale: int = 1


def settled(
    config: Mapping[str, Any], sampling: Mapping[str, Any], model: str, clip: bool, frames: int | None,
    height: int | None, width: int | None, steps: int | None, guidance: float | None, image_guidance: float | None,
    fps: float | None,
) -> Terms:  # fmt: skip
    """What was asked for, with the model's own settings where nothing was.

    config, sampling  a model's config.json, and its settings of sampling with their preset applied
    model             its digest
    """
    own = config["resolution"]
    if image_guidance is None and config["model"].get("image_condition"):
        image_guidance = sampling.get("image_guidance")
    return Terms(
        model=model,
        height=height or own["height"],
        width=width or own["width"],
        frames=(frames or max(own["frames"], LEAST_FRAMES)) if clip else 1,  # a model of pictures has 1
        steps=steps or sampling["steps"],
        guidance=float(sampling["guidance"] if guidance is None else guidance),
        fps=(fps or float(own["fps"])) if clip else None,
        image_guidance=image_guidance,
    )


def read_lines(path: Path) -> list[Line]:
    """The lines of a file of prompts; blank ones are left out. Raises GokuError naming the line that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise GokuError(f"--prompts {path}: there is no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise GokuError(f"--prompts {path}: cannot be read as UTF-8 text ({error}).") from error
    lines = [
        _line(line.strip(), f"{path}, line {number}") for number, line in enumerate(text.split("\n"), 1) if line.strip()
    ]
    if not lines:
        raise GokuError(f"--prompts {path}: no prompt in it. Write one per line, or JSON lines with the key prompt.")
    return lines


def unused_keys(lines: Sequence[Line]) -> list[str]:
    """Keys of JSON lines that mean nothing here, most frequent first."""
    return [key for key, _ in Counter(key for line in lines for key in line.model_extra or ()).most_common()]


def _line(text: str, where: str) -> Line:
    if not text.startswith("{"):
        return Line(prompt=text)
    try:
        return Line.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise GokuError(
            f"{where}: {key + ': ' if key else ''}{fault['msg']}. "
            'A JSON line looks like {"prompt": "a red circle", "seed": 7, "negative": "blur", "out": "a.png"}.'
        ) from error


def place(
    lines: Sequence[Line],
    source: Path,
    folder: Path,
    clip: bool,
    seed: int,
    num: int,
    negative: str | None,
    image: Path | None,
) -> list[Order]:
    """Orders of a file of prompts, `num` of each line with seeds rising by one; files are named by line where `out` is not given.

    Raises GokuError where two orders would write one file, a name leads out of the folder, or a suffix does not fit.
    """
    digits = max(5, len(str(len(lines) - 1)))
    orders: list[Order] = []
    for number, line in enumerate(lines):
        name = PurePosixPath(line.out or f"{number:0{digits}d}{'.mp4' if clip else '.png'}")
        if name.is_absolute() or ".." in name.parts or "\\" in str(name):
            raise GokuError(f"{source}: out {line.out!r} leads out of {folder}. Name a file below it.")
        if name.suffix.lower() not in (CLIPS if clip else PICTURES):
            raise GokuError(
                f"{source}: out {line.out!r} is no {'clip' if clip else 'picture'}. Pictures ({', '.join(PICTURES)}) and "
                f"clips ({', '.join(CLIPS)}) are drawn in two calls."
            )
        given = source.parent / line.image if line.image else image
        first = seed if line.seed is None else line.seed
        one = Order(line.prompt, first, folder / name, negative if line.negative is None else line.negative, given)
        orders += repeated(one, num)
    without = sum(order.image is None for order in orders)
    if 0 < without < len(orders):
        raise GokuError(
            f"{source}: {without} orders have no image, the others have. Give --image for those, or draw them apart."
        )
    twice = [out for out, count in Counter(order.out for order in orders).items() if count > 1]
    if twice:
        raise GokuError(
            f"{source}: {len(twice)} files would be written twice, the first is {twice[0]}. Give each its own out."
        )
    return orders


def repeated(order: Order, num: int) -> list[Order]:
    """`num` times with seeds SEED, SEED + 1, ...: out-1.png, out-2.png, ..."""
    if num == 1:
        return [order]
    out = order.out
    return [replace(order, seed=order.seed + k, out=out.with_stem(f"{out.stem}-{k + 1}")) for k in range(num)]


def described(order: Order, terms: Terms) -> Provenance:
    """The provenance that the file of an order will carry, but for the time of making."""
    return Provenance(
        model=terms.model,
        prompt=order.prompt,
        seed=order.seed,
        steps=terms.steps,
        guidance=terms.guidance,
        height=terms.height,
        width=terms.width,
        frames=terms.frames,
        fps=terms.fps,
        negative=order.negative,
        image_guidance=terms.image_guidance,
        first_frame=None if order.image is None else _checked_picture(order.image),
        first_frame_name=None if order.image is None else order.image.name,
        upscale=terms.upscale,
    )


def is_drawn(order: Order, terms: Terms, signed: bool) -> bool:
    """Does the file lie there with exactly this provenance, and with credentials that hold where they are wanted?"""
    if not order.out.is_file():
        return False
    found = read_provenance(order.out)
    if found is None or not found.same_pixels(described(order, terms)):
        return False
    if not signed:
        return True
    from goku_core.media.credentials import read_credentials

    return read_credentials(order.out).state in ("valid", "trusted")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Holds the folder, so that two calls do not write the same files. Raises GokuError where another call holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GokuError(
                f"Another `goku generate` is writing into {folder}. Wait for it, or name another folder."
            ) from error
        yield
    finally:
        os.close(handle)


def draw(
    generator: Generator,
    orders: Sequence[Order],
    terms: Terms,
    signer: Signer | None,
    on_samples: Callable[[int], None] | None = None,
    on_step: Callable[[float], None] | None = None,
    dated: bool = True,
) -> None:
    """Draw every order and write its file, a piece at a time, so that a kill loses one piece at most.

    on_step  as of `Generator.images`
    dated    False: the time of making is left out of the file, so that the same order gives the same bytes
    """
    for piece in _pieces(orders, terms):
        drawn = _samples(generator, piece, terms, on_samples, on_step)
        for order, pixels in zip(piece, drawn, strict=True):
            made = described(order, terms)
            made = made.now() if dated else made
            order.out.parent.mkdir(parents=True, exist_ok=True)
            if terms.frames > 1:
                larger = (_enlarged(frame, terms.upscale) for frame in pixels)
                write_clip(order.out, larger, terms.fps or float(generator.fps), made, signer)
            else:
                write_picture(order.out, _enlarged(pixels, terms.upscale), made, signer)


def _pieces(orders: Sequence[Order], terms: Terms) -> Iterator[Sequence[Order]]:
    size = min(PIECE_SAMPLES, max(1, PIECE_PIXELS // (terms.frames * terms.height * terms.width)))
    yield from (orders[begin : begin + size] for begin in range(0, len(orders), size))


def _samples(
    generator: Generator,
    orders: Sequence[Order],
    terms: Terms,
    on_samples: Callable[[int], None] | None,
    on_step: Callable[[float], None] | None,
) -> np.ndarray:
    import numpy as np

    asked: dict[str, Any] = {
        "prompts": [order.prompt for order in orders],
        "seeds": [order.seed for order in orders],
        "height": terms.height,
        "width": terms.width,
        "steps": terms.steps,
        "guidance": terms.guidance,
        "on_samples": on_samples,
        "on_step": on_step,
    }
    if any(order.negative for order in orders):
        asked["negative"] = [order.negative or "" for order in orders]
    if terms.frames == 1:
        return generator.images(**asked)
    images = [order.image for order in orders if order.image is not None]
    if images:
        asked["first_frames"] = np.stack([_picture(image, terms.height, terms.width) for image in images])
        asked["image_guidance"] = terms.image_guidance
    return generator.clips(frames=terms.frames, **asked)


@lru_cache(maxsize=4096)
def _checked_picture(image: Path) -> str:
    """SHA-256 of a first picture's file, after a look whether it can be read: not after hours, when its turn has come."""
    from goku_core.promote.bundle import sha256

    _picture(image, 16, 16)
    return sha256(image)


def _picture(image: Path, height: int, width: int) -> np.ndarray:
    from goku_core.media.decode import read_image
    from goku_core.media.probe import MediaError

    if not image.is_file():
        raise GokuError(f"--image {image}: there is no such file.")
    try:
        return read_image(image, height, width)
    except MediaError as error:
        raise GokuError(f"--image {image}: {error.message}. Give a picture such as a PNG or JPEG file.") from error


def _enlarged(rgb: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return rgb
    import cv2

    return cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_LANCZOS4)
