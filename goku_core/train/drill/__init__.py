"""Faults injected into a small real training of two ranks, and what became of it: `goku drill`."""
