"""`goku generate`: pictures and clips from a promoted model, with their provenance inside the file.

This is where the command line meets the promoted bundle: the shared module `generate.py` only knows folders.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.progress import Bar, console

if TYPE_CHECKING:
    import numpy as np

    from goku_core.generate import Generator

PICTURES = (".png", ".jpg", ".jpeg")
CLIPS = (".mp4", ".mov")
LEAST_FRAMES = 5  # a first frame and one group of four
VIEWING_SIDE = 256  # px; the embedded default draws 64 px, too small to look at


@dataclass(frozen=True)
class Provenance:
    """Written into the file: enough to make the same picture again. `model`: digest of the bundle (or its folder)."""

    model: str
    prompt: str
    seed: int
    steps: int
    guidance: float
    first_frame: str | None  # SHA-256 of the given first picture

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw, for example: a red circle left of a blue square")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write: .png or .jpg for a picture, .mp4 for a clip")
    ],
    frames: Annotated[
        int | None, typer.Option(help="Frames of a clip: 5, 9, 13, 17, ... [default: the model's]")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="First picture of the clip (image to video)")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same picture")] = 0,
    num: Annotated[int, typer.Option(min=1, help="How many, with seeds SEED, SEED+1, ...: out-1.png, out-2.png")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps [default: the model's]")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0.0, help="Classifier-free guidance; 1 is none [default: the model's]")
    ] = None,
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH in px [default: the model's]")] = None,
    model: Annotated[
        str,
        typer.Option(help="champion, previous, challenger, a version, a bundle's digest or folder, or models/PHASE"),
    ] = "champion",
    fps: Annotated[float | None, typer.Option(min=0.1, help="Playback rate [default: the model's]")] = None,
    upscale: Annotated[
        int | None,
        typer.Option(
            min=1, max=16, help=f"Enlarge by this factor (Lanczos) [default: to {VIEWING_SIDE} px short side]"
        ),
    ] = None,
    native: Annotated[bool, typer.Option("--native", help="Keep the model's own size")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON")] = False,
) -> None:
    """Draw a picture or a clip with the champion.

    Example: goku generate "a green triangle moving right" --frames 17 --out out.mp4
    """
    if native and upscale is not None:
        raise GokuError("--native and --upscale say opposite things: give one of them.")
    clip = wants_clip(out, frames, image)
    asked_height, asked_width = parse_size(size) if size else (None, None)
    folder, name = locate(Path.cwd(), model)
    generator = open_generator(folder, ("i2v" if image else "t2v") if clip else "t2i")
    word_level = generator.config["text"]["kind"] == "words"
    if word_level and (note := unknown_words(prompt, Path.cwd() / "data/clips.parquet")):
        console().print(note, soft_wrap=True, markup=False)

    height, width = asked_height or generator.size[0], asked_width or generator.size[1]
    frames = (frames or generator.frames) if clip else 1
    first, first_digest = _first_frame(image, height, width)
    factor = 1 if native else upscale or max(1, math.ceil(VIEWING_SIDE / min(height, width)))
    seeds = list(range(seed, seed + num))
    wanted = {
        "height": height,
        "width": width,
        "steps": steps or generator.sampling["steps"],
        "guidance": generator.sampling["guidance"] if guidance is None else guidance,
    }
    with Bar(f"drawing with {model} ({name[:12]})", num, "clips" if clip else "pictures") as bar:
        if clip:
            given = None if first is None else first[None].repeat(num, axis=0)
            drawn = generator.clips(
                [prompt] * num, seeds, frames=frames, first_frames=given, on_samples=bar.advance, **wanted
            )
        else:
            drawn = generator.images([prompt] * num, seeds, on_samples=bar.advance, **wanted)
    written = [out if num == 1 else out.with_stem(f"{out.stem}-{number}") for number in range(1, num + 1)]
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, one, drawn_seed in zip(written, drawn, seeds, strict=True):
        made = Provenance(name, prompt, drawn_seed, wanted["steps"], wanted["guidance"], first_digest)
        if clip:
            write_clip(path, one, factor, fps or float(generator.fps), made)
        else:
            write_picture(path, one, factor, made)
    facts = {
        "files": [str(path) for path in written],
        "model": name,
        "seeds": seeds,
        "size": [height, width],
        "written_size": [height * factor, width * factor],
        "frames": frames,
    }
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        typer.echo(_said(facts, factor, fps or float(generator.fps)))


def wants_clip(out: Path, frames: int | None, image: Path | None) -> bool:
    """Does the file to write ask for a clip? Raises GokuError where its suffix and the options do not fit."""
    suffix = out.suffix.lower()
    if suffix in PICTURES:
        if image is not None:
            raise GokuError(f"--image makes a clip, but {out} is a picture. Name an .mp4 file with --out.")
        if frames not in (None, 1):
            raise GokuError(f"{out} is a picture and has one frame. For {frames} frames name an .mp4 file with --out.")
        return False
    if suffix not in CLIPS:
        known = ", ".join((*PICTURES, *CLIPS))
        raise GokuError(f"{out}: cannot write {suffix or 'a file without suffix'}. Use {known}.")
    if frames is not None and (frames < LEAST_FRAMES or frames % 4 != 1):
        near = max(LEAST_FRAMES, 4 * round((frames - 1) / 4) + 1)
        raise GokuError(
            f"--frames {frames}: the VAE packs a first frame and then groups of four, so clips have 5, 9, 13, 17, ... "
            f"frames. The nearest is {near}."
        )
    return True


def parse_size(text: str) -> tuple[int, int]:
    """``64x112`` -> (64, 112): height and width in px, divisible by 16 (VAE stride 8, patches of 2)."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() for side in sides):
        raise GokuError(f"--size {text}: expected HEIGHTxWIDTH in px, for example 64x112.")
    height, width = (int(side) for side in sides)
    if min(height, width) < 16 or height % 16 or width % 16:
        raise GokuError(f"--size {text}: both sides must be divisible by 16 (VAE stride 8 times patch 2), at least 16.")
    return height, width


def locate(workspace: Path, model: str) -> tuple[Path, str]:
    """Folder of the model and the name for its provenance. Takes a folder, or a name that the ledger knows."""
    from goku_core.promote import bundle, promotion

    folder = Path(model)
    if folder.is_dir() and (folder / bundle.MANIFEST).is_file():
        bundle.verify(folder)
        return folder, bundle.sha256(folder / bundle.MANIFEST)
    if folder.is_dir() and (folder / bundle.WEIGHTS).is_file():
        return folder, bundle.sha256(folder / bundle.WEIGHTS)
    if folder.is_dir() or "/" in model:
        raise GokuError(f"{model}: neither a bundle (manifest.json) nor a trained phase (model.safetensors).")
    return promotion.resolve(workspace, model)


def open_generator(folder: Path, task: str) -> Generator:
    """The network of a bundle that does `task` (t2i, t2v, i2v), or of a phase's folder whatever it does."""
    from goku_core.generate import Generator
    from goku_core.promote import bundle

    if (folder / bundle.MANIFEST).is_file():
        return Generator.from_bundle(folder, task)
    return Generator.from_model(folder, vae=folder.parent / "vae")


def unknown_words(prompt: str, clips: Path) -> str | None:
    """A note about words of the prompt that occur in no caption of the corpus; None where all do or there is no corpus.

    A word-level encoder gives an unknown word a vector that training never showed the network: it cannot mean anything.
    """
    if not clips.is_file():
        return None
    import pyarrow.parquet

    from goku_core.models.text import words

    captions = pyarrow.parquet.read_table(clips, columns=["caption"])["caption"].unique().to_pylist()
    known = {word for caption in captions if caption for word in words(caption)}
    unknown = [word for word in dict.fromkeys(words(prompt)) if word not in known]
    if not known or not unknown:
        return None
    return (
        f"note: {', '.join(unknown)}: in no caption of the training data, so the model cannot know what that looks like"
    )


def write_picture(path: Path, rgb: np.ndarray, factor: int, provenance: Provenance) -> None:
    """uint8 (H, W, 3) to PNG (text chunks) or JPEG (comment), enlarged by `factor`."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    picture = Image.fromarray(_enlarged(rgb, factor))
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    if path.suffix.lower() == ".png":
        chunks = PngInfo()
        chunks.add_itxt("Comment", provenance.text())
        picture.save(partial, pnginfo=chunks)
    else:
        picture.save(partial, quality=95, comment=provenance.text().encode())
    partial.replace(path)


def write_clip(path: Path, frames: np.ndarray, factor: int, fps: float, provenance: Provenance) -> None:
    """uint8 (T, H, W, 3) to an H.264 file with the provenance as its comment, enlarged by `factor`."""
    import av

    from goku_core.media.encode import write_video

    bare = path.with_name(f".{path.stem}.bare{path.suffix}")
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        write_video(bare, (_enlarged(frame, factor) for frame in frames), fps)
        options = {"fflags": "+bitexact", "movflags": "+faststart"}
        with av.open(str(bare)) as source, av.open(str(partial), "w", options=options) as target:
            target.metadata["comment"] = provenance.text()
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        partial.replace(path)
    finally:
        bare.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def _first_frame(image: Path | None, height: int, width: int) -> tuple[np.ndarray | None, str | None]:
    """The given first picture, cut to the model's size, and the SHA-256 of its file."""
    if image is None:
        return None, None
    if not image.is_file():
        raise GokuError(f"--image {image}: there is no such file.")
    from goku_core.media.decode import read_image
    from goku_core.promote import bundle

    return read_image(image, height, width), bundle.sha256(image)


def _enlarged(rgb: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return rgb
    import cv2

    return cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_LANCZOS4)


def _said(facts: dict[str, object], factor: int, fps: float) -> str:
    files, (height, width), (tall, wide) = facts["files"], facts["size"], facts["written_size"]
    size = f"{height}x{width} px" + (f", enlarged {factor}x to {tall}x{wide} (--native keeps it)" if factor > 1 else "")
    length = f", {facts['frames']} frames at {fps:g}/s" if facts["frames"] != 1 else ""
    return f"{', '.join(files)}: {size}{length}, model {str(facts['model'])[:12]}, seed {facts['seeds'][0]}"
