"""Networks of judges and of distances, in plain PyTorch: attribute names are those of the published checkpoints."""
