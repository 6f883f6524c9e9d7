"""The shape of a phase's network."""

from __future__ import annotations

from goku_core.models import CONFIGS, GokuConfig
from goku_core.train.request import Phase, TrainRequest


def network_config(request: TrainRequest, phase: Phase, latent_channels: int, text_width: int) -> GokuConfig:
    """latent_channels: of the VAE; text_width: of the text encoder."""
    size = request.model
    named = size if size.name == "custom" else CONFIGS[size.name]
    return GokuConfig(
        depth=named.depth,
        width=named.width,
        heads=named.heads,
        ffn=named.ffn,
        latent_channels=latent_channels,
        text_width=text_width,
        image_condition=phase.image_condition,
        position=size.position,
        qk_norm=size.qk_norm,
    )
