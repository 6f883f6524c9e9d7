"""What a phase of training will need, computed before it is begun: memory of a GPU, packs of a step, days, checkpoints.

Runs on a laptop: no GPU, no network, no data needed.

    network      shapes, parameters, operations and kept activations of a phase's network
    lengths      how long its samples are: from the index of data/latents, else from its resolution
    devices      GPUs and the rates of their kernels, measured or published
    arrangement  ranks, and what one of them keeps
    memory       bytes of a GPU
    speed        seconds of a step
    fitting      the nearest arrangement that fits
    phase        all of it together, for one phase
"""
