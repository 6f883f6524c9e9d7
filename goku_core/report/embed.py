"""Pictures and clips as data URIs, so that the page is one file that can be mailed."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path

MOST_BYTES = 700_000
"""One medium larger than this is left out, with a line in its place (the page aims at 6 MB altogether)."""


class Embedder:
    """Turns files into data URIs and keeps count of what the page has grown to."""

    def __init__(self, budget: int = 9_000_000) -> None:
        self.left = budget
        self.omitted = 0

    def uri(self, path: Path) -> str | None:
        """data: URI of a file; None when it is missing, too large, or the page is full."""
        if not path.is_file():
            return None
        size = path.stat().st_size
        if size > MOST_BYTES or size * 4 // 3 > self.left:
            self.omitted += 1
            return None
        self.left -= size * 4 // 3
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"

    def photo(self, path: Path, width: int, quality: int = 82) -> str | None:
        """A photograph no wider than `width` pixels, as JPEG. Line art and pixel-exact samples go through `uri`."""
        if not path.is_file():
            return None
        from io import BytesIO

        from PIL import Image

        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        if picture.width > width:
            picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        data = buffer.getvalue()
        if len(data) * 4 // 3 > self.left:
            self.omitted += 1
            return None
        self.left -= len(data) * 4 // 3
        return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
