"""From latents to packs."""

from goku_core.train.data.loader import Loader
from goku_core.train.data.pack import Pack, Packer

__all__ = ["Loader", "Pack", "Packer"]
