"""From latents to packs."""

from goku_core.train.data.loader import Loader
from goku_core.train.data.pack import Pack
from goku_core.train.data.packer import Packer
from goku_core.train.data.source import open_latents

__all__ = ["Loader", "Pack", "Packer", "open_latents"]
