"""Which device a scorer computes on. The pool shows each worker its own accelerator and no other."""

from __future__ import annotations

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.pool import Devices
from goku_core.pipeline.pool.devices import visible
from goku_core.pipeline.pool.operator import engine


def resolved(device: str) -> str:
    """A device of torch for "auto"; any other name as it is."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def plain_float32(device: str) -> None:
    """In this process a float32 on a GPU is one, and the same sum the same bits: by default convolutions cut half of its digits
    off (TF32), and which algorithm adds is left to chance. Nothing changes on a CPU."""
    if device == "cpu":
        return
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def accelerators(device: str, share: float, key: str) -> Devices | None:
    """What the workers get; None: the CPU. Raises GokuError where cuda is demanded and not there.

    device  "auto", "cpu" or "cuda"
    share   part of a GPU that one worker takes, 0 < share <= 1
    key     the parameter or option that chose the device, for the message
    """
    if device == "cpu":
        return None
    # On a cluster the nodes have them, and this process need not.
    if device == "cuda" and engine() == "local" and not visible():
        raise GokuError(f"{key} is cuda, but there is no GPU here. Set it to auto or cpu")
    return Devices(share=max(1, int(1.0 / share + 1e-9)))
