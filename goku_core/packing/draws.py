"""Randomness as a function, not a state: every draw is a function of (run seed, purpose, key, step)."""

from __future__ import annotations

import hashlib

import numpy as np


def philox(seed: int, purpose: str, key: str = "", step: int = 0) -> np.random.Generator:
    """A generator for one purpose, key (sample id) and step. The same anywhere, after any restart, at any rank count."""
    digest = hashlib.blake2b(f"{seed}\0{purpose}\0{key}\0{step}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64)))


def uniform(seed: int, purpose: str, key: str, step: int) -> float:
    """One draw in [0, 1)."""
    return float(philox(seed, purpose, key, step).random())
