"""Judges of VBench (arXiv 2311.17982) that need a network: what its official code does, on ports that pip installs."""
