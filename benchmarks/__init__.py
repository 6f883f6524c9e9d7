"""Measured claims: one file each, run by `goku bench NAME` or `python -m benchmarks.NAME`. Not part of the installed package.

Each runs both sides (this project, and the peer or the physical limit) in one process, prints a table with the ratio and writes
results/NAME-MACHINE.json. They need torch, numpy and the repository; what else one needs its docstring says.
"""
