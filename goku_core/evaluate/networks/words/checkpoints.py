"""What of a published checkpoint inference needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor


def without(tensors: Mapping[str, Tensor], spare: Iterable[str]) -> dict[str, Tensor]:
    """The tensors but those whose names one of the regular expressions finds: buffers that are computed here, averages of
    training, layers that the published network has and never uses."""
    unneeded = re.compile("|".join(f"(?:{one})" for one in spare))
    return {name: tensor for name, tensor in tensors.items() if not unneeded.search(name)}
