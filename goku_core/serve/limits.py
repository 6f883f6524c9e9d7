"""What a service takes on at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Our choice: room for the paper's clips (720x1280, 129 frames are 119,000 tokens) and for a handful of people.

    queue         orders that wait; one more is refused with 429
    per_client    orders of one client that wait or run
    side, frames  largest picture side (px) and longest clip of one order
    steps         solver steps of one order
    tokens        of one order: latent positions after patching, what time and memory grow with
    prompt        characters
    upload_bytes, upload_pixels  of a first frame
    deadline_s    longest that an order may wait and run, and what it gets when it names none
    memory_mb     resident memory of the worker, which is ended above it; None: no bound
    loaded        networks in memory at once (each task of a bundle has one); the one used longest ago goes first
    kept, kept_hours  finished orders whose files are kept
    """

    queue: int = 64
    per_client: int = 16
    side: int = 1280
    frames: int = 129
    steps: int = 100
    tokens: int = 120_000
    prompt: int = 2000
    upload_bytes: int = 16 * 2**20
    upload_pixels: int = 4096 * 4096
    deadline_s: float = 600.0
    memory_mb: int | None = None
    loaded: int = 6
    kept: int = 1000
    kept_hours: float = 72.0
