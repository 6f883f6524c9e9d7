"""Networks of judges, ported: plain PyTorch whose tensors carry the names of the published checkpoints."""
