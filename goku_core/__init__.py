"""Goku platform: from raw video to a registered, evaluated, served rectified-flow transformer."""

__version__ = "0.1.0"
