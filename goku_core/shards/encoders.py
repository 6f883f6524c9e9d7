"""Which encoders made a set of latents. Latents of two encoders look alike and mean different things: they never meet."""

from __future__ import annotations

from collections.abc import Mapping

from goku_core.pipeline.errors import GokuError

# vae: SHA-256 of its weights; text: fingerprint of the text encoder
ENCODERS = ("vae", "text")


def refuse_other_encoders(found: Mapping[str, str], wanted: Mapping[str, str], where: str, beside: str) -> None:
    """Raises GokuError where `found` (of `where`) names another encoder than `wanted` (of `beside`).

    A side that names no encoder of a kind says nothing about it.
    """
    for kind in ENCODERS:
        one, other = found.get(kind), wanted.get(kind)
        if one and other and one != other:
            raise GokuError(
                f"{where} was made with another {kind} encoder than {beside}: {one[:40]} against {other[:40]}. Latents of two "
                "encoders cannot be mixed. Run `goku run precompute` again, then the phases of `train` that read it."
            )
