"""`goku generate`: pictures and clips, one or thousands, each with its provenance inside the file.

This is where the command line meets models by name, orders, credentials and the shared sampler `generate.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goku_core.media.provenance import CLIPS, PICTURES
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.progress import Bar, console

if TYPE_CHECKING:
    from goku_core.generate import Generator
    from goku_core.orders import Order, Terms

VIEWING_SIDE = 256  # px; the embedded default draws 64 px, too small to look at
# As `goku_core.orders` has them; kept here too, so that --help needs no import of it.
LEAST_FRAMES = 5
MOST_SEED = 2**63 - 1
NAMED_WORDS = 12


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What to draw, for example: a red circle left of a blue square")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write: .png or .jpg, .mp4 or .mov; with --prompts a folder"),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="File of prompts instead of PROMPT: one per line, or JSON lines (prompt, seed, negative, out)"
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Frames of a clip: 5, 9, 13, 17, ... [default: the model's]")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="First picture of the clip (image to video)")] = None,
    negative: Annotated[str | None, typer.Option(help="What the result shall not look like")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Same seed, same picture")] = 0,
    num: Annotated[int, typer.Option(min=1, help="How many, with seeds SEED, SEED+1, ...: out-1.png, out-2.png")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Solver steps [default: the model's]")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0.0, help="Classifier-free guidance; 1 is none [default: the model's]")
    ] = None,
    image_guidance: Annotated[
        float | None, typer.Option(min=0.0, help="Guidance by the first picture, apart from the text's (with --image)")
    ] = None,
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH in px [default: the model's]")] = None,
    model: Annotated[
        str,
        typer.Option(
            help="champion, previous, challenger, a version, a bundle's digest or folder, models/PHASE, or the "
            "fingerprint or MLflow run of a training"
        ),
    ] = "champion",
    fps: Annotated[float | None, typer.Option(min=0.1, help="Playback rate [default: the model's]")] = None,
    upscale: Annotated[
        int | None,
        typer.Option(
            min=1, max=16, help=f"Enlarge by this factor (Lanczos) [default: to {VIEWING_SIDE} px short side]"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:N")] = "auto",
    native: Annotated[bool, typer.Option("--native", help="Keep the model's own size")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON")] = False,
) -> None:
    """Draw pictures or clips with the champion.

    With --prompts it goes on where an earlier call was stopped: files that lie there with the same provenance stay.

    Example: goku generate "a green triangle moving right" --frames 17 --out out.mp4
    """
    if native and upscale is not None:
        raise GokuError("--native and --upscale say opposite things: give one of them.")
    lines, out = _lines(prompt, prompts, out)
    clip = wants_clips(lines, out, frames, image) if prompts else wants_clip(out, frames, image)
    height, width = parse_size(size) if size else (None, None)
    orders = _orders(prompt, prompts, lines, out, clip, seed, num, negative, image)
    from goku_core.media.credentials import Signer

    signer = Signer.from_environment()  # what is wrong with a key is said before anything is drawn
    generator, digest = _open(model, clip, any(order.image for order in orders), device)
    terms = _terms(generator, digest, clip, frames, height, width, steps, guidance, image_guidance, fps)
    factor = max(1, math.ceil(VIEWING_SIDE / min(terms.height, terms.width)))
    terms = replace(terms, upscale=1 if native else upscale or factor)
    _check_guidance(orders, terms)
    if generator.config["text"]["kind"] == "words" and (
        note := unknown_words([order.prompt for order in orders], Path.cwd() / "data/clips.parquet")
    ):
        console().print(note, soft_wrap=True, markup=False)
    from goku_core.orders import alone_in, described, draw, is_drawn

    for order in {order.image: order for order in orders if order.image}.values():
        described(order, terms)  # reads the first picture: an unreadable one is told now, not when its turn has come
    with alone_in(out) if prompts else nullcontext():
        waiting = [order for order in orders if not (prompts and is_drawn(order, terms, signer is not None))]
        if waiting:
            with Bar(f"drawing with {model} ({digest[:12]})", len(waiting), "clips" if clip else "pictures") as bar:
                draw(generator, waiting, terms, signer, bar.advance)
    facts = {
        "files": [str(order.out) for order in orders],
        "drawn": len(waiting),
        "kept": len(orders) - len(waiting),
        "model": digest,
        "seeds": [order.seed for order in orders],
        "size": [terms.height, terms.width],
        "written_size": [terms.height * terms.upscale, terms.width * terms.upscale],
        "frames": terms.frames,
        "signed": signer is not None,
    }
    typer.echo(json.dumps(facts) if as_json else _said(facts, terms, out if prompts else None))


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
    _check_frames(frames)
    return True


def wants_clips(lines: Sequence[Any], out: Path, frames: int | None, image: Path | None) -> bool:
    """Do the lines of a file of prompts ask for clips: by the suffix of an `out`, else by a first picture or --frames."""
    if out.suffix.lower() in (*PICTURES, *CLIPS):
        raise GokuError(f"--out {out} is a file; with --prompts name a folder, in which each prompt gets a file.")
    if out.exists() and not out.is_dir():
        raise GokuError(f"--out {out} is there and is no folder. Name another.")
    named = next((Path(line.out) for line in lines if line.out), None)
    given = image or next((Path(line.image) for line in lines if line.image), None)
    if named is not None:
        return wants_clip(named, frames, given)
    if given is None and frames in (None, 1):
        return False
    _check_frames(frames)
    return True


def _check_frames(frames: int | None) -> None:
    if frames is not None and (frames < LEAST_FRAMES or frames % 4 != 1):
        near = max(LEAST_FRAMES, 4 * round((frames - 1) / 4) + 1)
        raise GokuError(
            f"--frames {frames}: the VAE packs a first frame and then groups of four, so clips have 5, 9, 13, 17, ... "
            f"frames. The nearest is {near}."
        )


def parse_size(text: str) -> tuple[int, int]:
    """``64x112`` -> (64, 112): height and width in px, divisible by 16 (VAE stride 8, patches of 2)."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() for side in sides):
        raise GokuError(f"--size {text}: expected HEIGHTxWIDTH in px, for example 64x112.")
    height, width = (int(side) for side in sides)
    if min(height, width) < 16 or height % 16 or width % 16:
        near = "x".join(str(max(16, 16 * round(side / 16))) for side in (height, width))
        raise GokuError(
            f"--size {text}: both sides must be divisible by 16 (VAE stride 8 times patch 2), at least 16. "
            f"The nearest is {near}."
        )
    return height, width


def unknown_words(prompts: Sequence[str], clips: Path) -> str | None:
    """A note about words of prompts that occur in no caption of the corpus; None where all do or there is no corpus.

    A word-level encoder gives an unknown word a vector that training never showed the network: it cannot mean anything.
    """
    if not clips.is_file():
        return None
    import pyarrow.parquet

    from goku_core.models.text import words

    captions = pyarrow.parquet.read_table(clips, columns=["caption"])["caption"].unique().to_pylist()
    known = {word for caption in captions if caption for word in words(caption)}
    asked = dict.fromkeys(word for prompt in dict.fromkeys(prompts) for word in words(prompt))
    unknown = [word for word in asked if word not in known]
    if not known or not unknown:
        return None
    more = f" and {len(unknown) - NAMED_WORDS} more" if len(unknown) > NAMED_WORDS else ""
    return (
        f"note: {', '.join(unknown[:NAMED_WORDS])}{more}: in no caption of the training data, so the model cannot know "
        "what that looks like"
    )


def _lines(prompt: str | None, prompts: Path | None, out: Path | None) -> tuple[list[Any], Path]:
    """The lines of --prompts (none without it) and where to write; refuses what says two things or nothing."""
    if prompt is not None and prompts is not None:
        raise GokuError("PROMPT and --prompts exclude each other: give a prompt, or a file of prompts.")
    if prompt is None and prompts is None:
        raise GokuError(
            'Nothing to draw: give a prompt, as in goku generate "a red circle" --out a.png, or --prompts FILE.'
        )
    if out is None:
        raise GokuError(f"--out is missing: name {'the folder' if prompts else 'the file'} to write.")
    if prompts is None:
        return [], out
    from goku_core.orders import read_lines, unused_keys

    lines = read_lines(prompts)
    if keys := unused_keys(lines):
        more = f" and {len(keys) - NAMED_WORDS} more" if len(keys) > NAMED_WORDS else ""
        console().print(f"note: keys not used: {', '.join(keys[:NAMED_WORDS])}{more}", soft_wrap=True, markup=False)
    return lines, out


def _orders(
    prompt: str | None, prompts: Path | None, lines: list[Any], out: Path, clip: bool,
    seed: int, num: int, negative: str | None, image: Path | None,
) -> list[Order]:  # fmt: skip
    from goku_core.orders import Order, place, repeated

    if prompts is not None:
        return place(lines, prompts, out, clip, seed, num, negative, image)
    return repeated(Order(prompt or "", seed, out, negative, image), num)


def _open(name: str, clip: bool, given: bool, device: str) -> tuple[Generator, str]:
    """The generator for the task and the digest of its model."""
    from goku_core.references import locate

    model = locate(Path.cwd(), name)
    task = ("i2v" if given else "t2v") if clip else "t2i"
    generator = model.open(task, device)
    if generator.model.config.image_condition and not given:
        raise GokuError(f"{name} continues a given picture: name one with --image, and an .mp4 file with --out.")
    if given and not generator.model.config.image_condition:
        raise GokuError(
            f"{name} takes no first picture. Leave --image out, or name a model trained with image_condition."
        )
    return generator, model.digest


def _terms(
    generator: Generator, digest: str, clip: bool, frames: int | None, height: int | None, width: int | None,
    steps: int | None, guidance: float | None, image_guidance: float | None, fps: float | None,
) -> Terms:  # fmt: skip
    """What was asked for, with the model's own settings where nothing was."""
    from goku_core.orders import settled

    if image_guidance is not None and not generator.model.config.image_condition:
        raise GokuError("--image-guidance needs --image: there is no picture to be guided by.")
    return settled(
        generator.config, generator.sampling, digest, clip, frames, height, width, steps, guidance, image_guidance, fps
    )


def _check_guidance(orders: Sequence[Order], terms: Terms) -> None:
    if terms.guidance == 1.0 and terms.image_guidance in (None, 1.0) and any(order.negative for order in orders):
        raise GokuError(
            "A negative prompt has no effect at guidance 1. Raise --guidance, or leave the negative prompt out."
        )


def _said(facts: dict[str, Any], terms: Terms, folder: Path | None) -> str:
    files, (tall, wide), factor = facts["files"], facts["written_size"], terms.upscale
    size = f"{terms.height}x{terms.width} px"
    size += f", enlarged {factor}x to {tall}x{wide} (--native keeps it)" if factor > 1 else ""
    length = f", {terms.frames} frames at {terms.fps:g}/s" if terms.frames != 1 else ""
    signed = ", with content credentials" if facts["signed"] else ""
    if folder is not None:
        kept = f", {facts['kept']} were there already" if facts["kept"] else ""
        return f"{folder}: {facts['drawn']} drawn{kept}: {size}{length}, model {facts['model'][:12]}{signed}"
    return f"{', '.join(files)}: {size}{length}, model {facts['model'][:12]}, seed {facts['seeds'][0]}{signed}"
