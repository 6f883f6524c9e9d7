"""Networks of the judges in plain PyTorch, whose tensors carry the names of the published checkpoints."""
