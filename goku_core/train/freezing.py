"""Modules that a phase does not train."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from goku_core.pipeline.errors import GokuError

SHOWN = 8


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Takes modules out of training; returns the names of their parameters, in the order of the model.

    patterns  names of modules as `model.named_modules()` has them, `*` and `?` for parts of them: "blocks.*.cross_attention"

    A frozen parameter gets no gradient and so no state of an optimizer. Must come before optimizers are made and parameters are
    sharded. Raises `GokuError` where a pattern names no module, and where nothing is left to train.
    """
    modules = {
        name: module for name, module in model.named_modules() if name and any(True for _ in module.parameters())
    }
    for pattern in patterns:
        chosen = [module for name, module in modules.items() if fnmatchcase(name, pattern)]
        if not chosen:
            raise GokuError(f'freeze: "{pattern}" names no module of this network. {_known(pattern, list(modules))}')
        for module in chosen:
            module.requires_grad_(False)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if frozen and not any(parameter.requires_grad for parameter in model.parameters()):
        raise GokuError(
            f"freeze: {', '.join(patterns)} take the whole network out of training; nothing is left to train."
        )
    return frozen


def _known(pattern: str, names: list[str]) -> str:
    near = difflib.get_close_matches(pattern, names, n=3)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    outer = [name for name in names if "." not in name]
    return f"Modules: {', '.join(outer[:SHOWN])}; those of a block: blocks.0.*."
