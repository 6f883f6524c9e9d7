"""Scorers that need weights: each is off until its folder or file is named, and left out by name until then."""
