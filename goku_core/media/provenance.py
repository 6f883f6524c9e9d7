"""How a generated file was made, written into the file itself, and read back from it.

One JSON text, in the place that each format has for a comment: the PNG text chunk (iTXt) ``Comment``, the JPEG comment,
the MP4 or MOV tag ``comment``. Anybody can read it and anybody can change it; who must prove where a file came from
signs it (`goku_core.media.credentials`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goku_core import __version__
from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    import numpy as np

    from goku_core.media.credentials import Signer

PICTURES = (".png", ".jpg", ".jpeg")
CLIPS = (".mp4", ".mov")
TAG = "comment"


@dataclass(frozen=True)
class Provenance:
    """Enough to make the same pixels again with the same model.

    model             digest of the bundle, or of a trained phase (`goku_core.references`)
    seed              of this sample's noise: a sample does not depend on what else was drawn with it
    guidance          classifier-free guidance scale; image_guidance: that of the first picture, None where there is none
    height, width     px as drawn; the file is `upscale` times larger
    frames, fps       1 and None for a picture
    first_frame       SHA-256 of the file of the given first picture (image to video), and that file's name
    made              UTC, ISO 8601, whole seconds
    goku              version of the software
    """

    model: str
    prompt: str
    seed: int
    steps: int
    guidance: float
    height: int
    width: int
    frames: int = 1
    fps: float | None = None
    negative: str | None = None
    image_guidance: float | None = None
    first_frame: str | None = None
    first_frame_name: str | None = None
    upscale: int = 1
    made: str | None = None
    goku: str = __version__

    @property
    def prompt_sha256(self) -> str:
        return hashlib.sha256(self.prompt.encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"prompt_sha256": self.prompt_sha256}

    def text(self) -> str:
        return json.dumps(self.as_json(), sort_keys=True, ensure_ascii=False)

    def now(self) -> Provenance:
        """The same, made at this moment."""
        return replace(self, made=datetime.now(UTC).isoformat(timespec="seconds"))

    def same_pixels(self, other: Provenance) -> bool:
        """Do both describe the same work? When it was done, and under what name its first picture lay, do not count."""
        return replace(self, made=None, first_frame_name=None) == replace(other, made=None, first_frame_name=None)

    @staticmethod
    def from_json(found: object) -> Provenance | None:
        """None for what is no provenance of ours, or is damaged: another prompt than the digest beside it tells."""
        if not isinstance(found, dict):
            return None
        from pydantic import TypeAdapter, ValidationError

        known = {field.name for field in fields(Provenance)}
        try:
            made = TypeAdapter(Provenance).validate_python({key: found[key] for key in known & found.keys()})
        except ValidationError:
            return None
        return made if found.get("prompt_sha256") == made.prompt_sha256 else None


def again_arguments(provenance: Provenance, out: str) -> list[str]:
    """The command that draws the same pixels again, as a list of arguments."""
    words = ["goku", "generate", "--model", provenance.model, "--seed", str(provenance.seed)]
    words += ["--steps", str(provenance.steps), "--guidance", repr(provenance.guidance)]
    words += ["--size", f"{provenance.height}x{provenance.width}", "--upscale", str(provenance.upscale)]
    if provenance.frames > 1:
        words += ["--frames", str(provenance.frames)]
    if provenance.fps is not None:
        words += ["--fps", repr(provenance.fps)]
    if provenance.negative is not None:
        words += ["--negative", provenance.negative]
    if provenance.first_frame is not None:
        words += ["--image", provenance.first_frame_name or "FIRST.png"]
    if provenance.image_guidance is not None:
        words += ["--image-guidance", repr(provenance.image_guidance)]
    return [*words, "--out", out, "--", provenance.prompt]


def write_picture(path: Path, rgb: np.ndarray, provenance: Provenance, signer: Signer | None = None) -> None:
    """uint8 (H, W, 3) to PNG or JPEG with its provenance, signed where there is a signer. Whole or not at all."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    picture, partial = Image.fromarray(rgb), _beside(path, "partial")
    try:
        if path.suffix.lower() == ".png":
            chunks = PngInfo()
            chunks.add_itxt("Comment", provenance.text())
            picture.save(partial, pnginfo=chunks)
        else:
            picture.save(partial, quality=95, comment=provenance.text().encode())
        _settle(partial, path, provenance, signer)
    finally:
        partial.unlink(missing_ok=True)


def write_clip(
    path: Path, frames: Iterable[np.ndarray], fps: float, provenance: Provenance, signer: Signer | None = None
) -> None:
    """uint8 (H, W, 3) each, to H.264 in MP4 or MOV with its provenance, signed where there is a signer. Whole or not at all."""
    import av

    from goku_core.media.encode import write_video

    bare, partial = _beside(path, "bare"), _beside(path, "partial")
    try:
        write_video(bare, frames, fps)
        options = {"fflags": "+bitexact", "movflags": "+faststart"}
        with av.open(str(bare)) as source, av.open(str(partial), "w", options=options) as target:
            target.metadata[TAG] = provenance.text()
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        _settle(partial, path, provenance, signer)
    finally:
        bare.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def read_provenance(path: Path) -> Provenance | None:
    """How the file says it was made; None where it does not say so, is no picture or clip, or says what cannot be.

    Raises GokuError where there is no such file.
    """
    if not path.is_file():
        raise GokuError(f"{path}: there is no such file.")
    comment = _picture_comment(path) or _clip_comment(path)
    if not comment:
        return None
    try:
        found = json.loads(comment)
    except ValueError:  # somebody else's comment
        return None
    return Provenance.from_json(found)


def _picture_comment(path: Path) -> str | None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            comment = picture.info.get("Comment", picture.info.get(TAG))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        return None  # no picture: a clip, or nothing that can be read
    return comment.decode(errors="replace") if isinstance(comment, bytes) else comment


def _clip_comment(path: Path) -> str | None:
    from goku_core.media.probe import MediaError, open_container

    try:
        with open_container(path) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
    except MediaError:
        return None
    return tags.get(TAG) or tags.get(f"com.apple.quicktime.{TAG}")


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.stem}.{what}{path.suffix}")


def _settle(partial: Path, path: Path, provenance: Provenance, signer: Signer | None) -> None:
    if signer is None:
        partial.replace(path)
        return
    signed = _beside(path, "signed")
    try:
        signer.sign(partial, signed, provenance, path.name)
        signed.replace(path)
    finally:
        signed.unlink(missing_ok=True)
