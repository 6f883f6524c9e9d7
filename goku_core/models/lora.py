"""Low-rank adapters (LoRA, arXiv 2106.09685) on chosen projections of the transformer, through the library peft."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

WEIGHTS = "adapter.safetensors"
CONFIG = "adapter.json"
PROJECTIONS = (
    "self_attention.qkv",
    "self_attention.out",
    "cross_attention.q",
    "cross_attention.kv",
    "cross_attention.out",
    "feed_forward.fc1",
    "feed_forward.fc2",
)
# Our choice: the attention's projections, where most of the gain lies for a given number of weights.
ATTENTION = PROJECTIONS[:5]


def add_lora(model: nn.Module, rank: int, alpha: float | None = None, targets: Sequence[str] = ATTENTION) -> None:
    """Adds an adapter to each target projection of every block; only adapters stay trainable. Starts as no change at all.

    alpha    the update counts alpha / rank; by default as much as the rank
    targets  names out of `PROJECTIONS`

    Raises ValueError for an unknown target or a rank below 1, ImportError where peft is not installed.
    """
    unknown = sorted(set(targets) - set(PROJECTIONS))
    if unknown or not targets:
        raise ValueError(f"LoRA targets {', '.join(unknown) or 'none'}: known are {', '.join(PROJECTIONS)}")
    if rank < 1:
        raise ValueError(f"LoRA rank {rank}: at least 1")
    peft = _peft()
    alpha = float(rank if alpha is None else alpha)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), lora_dropout=0.0, bias="none")
    peft.inject_adapter_in_model(config, model)
    model.lora = {"rank": rank, "alpha": alpha, "targets": list(targets)}


def save_lora(model: nn.Module, folder: Path) -> None:
    """Writes adapter.safetensors and adapter.json. Raises ValueError where the model has no adapter."""
    described = getattr(model, "lora", None)
    if described is None:
        raise ValueError("this model has no LoRA adapter: call add_lora first")
    folder.mkdir(parents=True, exist_ok=True)
    state = _peft().get_peft_model_state_dict(model)
    save_file({name: value.detach().contiguous() for name, value in state.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_lora(model: nn.Module, folder: Path) -> None:
    """Adds the adapter of `save_lora` to a model of the same shape.

    Raises FileNotFoundError where the folder is no adapter, ValueError where it does not fit the model.
    """
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder} is no LoRA adapter: {file} is missing")
    described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    add_lora(model, described["rank"], described["alpha"], described["targets"])
    given = load_file(folder / WEIGHTS)
    expected = {k: v.shape for k, v in _peft().get_peft_model_state_dict(model).items()}
    strange = [k for k in {**expected, **given} if k not in given or expected.get(k) != given[k].shape]
    if strange:
        raise ValueError(f"{folder}: the adapter does not fit this model: {', '.join(sorted(strange)[:3])}")
    _peft().set_peft_model_state_dict(model, given)


def merge_lora(model: nn.Module) -> None:
    """Folds the adapters into the weights they adapt and removes them: the same function, at the plain model's speed."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    for attribute in ("lora", "peft_config"):
        if hasattr(model, attribute):
            delattr(model, attribute)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA needs the package peft: make install EXTRAS=dev,lora") from error
    return peft
