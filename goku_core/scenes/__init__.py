"""The procedural world: what a scene holds, how it is drawn, how people would describe it.

Two stages use it for two purposes: `collect` renders the sample corpus from it, `evaluate` takes prompts and
ground truth from it. Everything is a pure function of a numpy Generator.
"""
