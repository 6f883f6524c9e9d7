"""First frames that clients send: looked at before they are kept, and named by their content, never by the client."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from goku_core.media.decode import read_image
from goku_core.media.probe import MediaError
from goku_core.pipeline.files import sync_folder
from goku_core.serve.limits import Limits
from goku_core.serve.orders import Refused, Upload

KINDS = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp"}  # MPO: what many telephones write as .jpg
ID = re.compile(r"[0-9a-f]{64}")
PARTIAL = ".partial-"  # how the name of a file begins that is still being written
LONGEST = 3600.0  # s: nobody writes one for longer


class Uploads:
    """Pictures in a folder, each under the SHA-256 of its bytes."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits

    def take(self, content: bytes) -> Upload:
        """Keep a picture. Raises `Refused`: 413 for one that is too large, 422 for what is no PNG, JPEG or WebP, whole."""
        if len(content) > self.limits.upload_bytes:
            raise Refused(
                413, "upload-size", f"The picture has {len(content)} bytes; {self.limits.upload_bytes} are the most."
            )
        suffix = self._look(content)
        id = hashlib.sha256(content).hexdigest()
        path = self.folder / f"{id}{suffix}"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A name of its own for every call: the same picture may be sent by several clients at once.
        handle, name = tempfile.mkstemp(suffix, PARTIAL, self.folder)
        partial = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            try:
                height, width = read_image(partial).shape[:2]  # decoded as the worker will
            except MediaError as error:
                raise Refused(422, "upload", f"The picture cannot be read: {error.message}.") from error
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
            sync_folder(self.folder)
        finally:
            partial.unlink(missing_ok=True)
        return Upload(id=id, height=height, width=width, bytes=len(content))

    def path(self, id: str) -> Path:
        """Raises `Refused` (404)."""
        found = sorted(self.folder.glob(f"{id}.*")) if ID.fullmatch(id) else []
        if not found:
            raise Refused(404, "unknown-upload", "There is no such upload, or it is no longer kept. Send it again.")
        return found[0]

    def given(self, first_frame: str) -> str:
        """The id of what an order names: an upload, or the picture itself in base64. Raises `Refused`."""
        if ID.fullmatch(first_frame):
            self.path(first_frame).touch()  # in use: it stays
            return first_frame
        if len(first_frame) > self.limits.upload_bytes * 4 / 3 + 4:
            raise Refused(
                413, "upload-size", f"first_frame: {self.limits.upload_bytes} bytes of a picture are the most."
            )
        try:
            content = base64.b64decode(first_frame.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise Refused(422, "upload", "first_frame: neither the id of an upload nor a picture in base64.") from error
        return self.take(content).id

    def prune(self, used: Collection[str]) -> None:
        """Remove what no order uses and is older than results are kept, or too many.

        Other threads write and remove files here meanwhile. What is being written is left alone, unless it is so old that
        its writer must have been killed.
        """
        if not self.folder.is_dir():
            return
        oldest = time.time() - self.limits.kept_hours * 3600
        free, partial = [], []
        for path in self.folder.iterdir():
            if path.stem not in used:
                with suppress(FileNotFoundError):
                    (partial if path.name.startswith(PARTIAL) else free).append((path.stat().st_mtime, path))
        free.sort(reverse=True)
        stale = [path for touched, path in partial if touched < min(oldest, time.time() - LONGEST)]
        stale += [path for place, (touched, path) in enumerate(free) if place >= self.limits.kept or touched < oldest]
        for path in stale:
            path.unlink(missing_ok=True)

    def _look(self, content: bytes) -> str:
        """The suffix of its kind, from its head alone. Nothing but PNG, JPEG and WebP is let near a decoder."""
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as picture:
                kind, pixels = picture.format, picture.width * picture.height
            with Image.open(io.BytesIO(content)) as picture:  # as it will be opened: not as another kind
                same = picture.format == kind
        except Image.DecompressionBombError as error:
            raise Refused(413, "upload-pixels", "The picture has too many pixels.") from error
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise Refused(422, "upload", "That is no picture in PNG, JPEG or WebP.") from error
        if not same or kind not in KINDS:
            raise Refused(422, "upload", "That is no picture in PNG, JPEG or WebP.")
        if pixels > self.limits.upload_pixels:
            raise Refused(
                413, "upload-pixels", f"The picture has {pixels} pixels; {self.limits.upload_pixels} are the most."
            )
        return KINDS[kind]
