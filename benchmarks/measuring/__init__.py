"""What the benchmarks share: options, packs of samples, alternating repeats, the peer, the machine, the result file."""
