"""What a file is by its first bytes: neither its name nor what the server calls it is trusted."""

from __future__ import annotations

# As many bytes as `suffix_of` looks at: a transport stream is known by the first byte of its second packet; a Matroska
# header names its document type within the first few dozen.
HEAD = 256
TS_PACKET, TS_SYNC = 188, 0x47
# Pictures in the same container as MP4 (HEIF, AVIF); no known type of ours.
STILL_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}
# Boxes that a QuickTime file older than the brand may begin with.
QUICKTIME_BOXES = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
STARTS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"GIF8": ".gif",
    b"II*\x00": ".tif",
    b"MM\x00*": ".tif",
    b"FLV\x01": ".flv",
    b"OggS": ".ogv",
    b"\x00\x00\x01\xba": ".mpg",
}


def suffix_of(head: bytes) -> str | None:
    """One of the suffixes that `collect.listing` knows; None for anything else."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in STILL_BRANDS:
            return None
        return ".mov" if brand == b"qt  " else ".mp4"
    if head[4:8] in QUICKTIME_BOXES:
        return ".mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return ".webm" if b"webm" in head else ".mkv"
    if head.startswith(b"RIFF"):
        return {b"AVI ": ".avi", b"WEBP": ".webp"}.get(head[8:12])
    if _is_transport_stream(head):
        return ".ts"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return ".bmp"
    return next((suffix for start, suffix in STARTS.items() if head.startswith(start)), None)


def _is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes, or those with four bytes of time before each (Blu-ray, cameras)."""
    places = ((0, TS_PACKET), (4, 2 * 4 + TS_PACKET))
    return any(len(head) > second and head[first] == head[second] == TS_SYNC for first, second in places)


def described(head: bytes, media_type: str) -> str:
    """In words, for the message of a file that is neither video nor picture."""
    text = head.lstrip()[:16].lower()
    said = f"; the server calls it {media_type}" if media_type else ""
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return f"a page of a web site{said}"
    if text.startswith((b"{", b"[")):
        return f"JSON{said}"
    return f"no known video or picture (it begins with {head[:8].hex(' ')}){said}"
