"""What a checkpoint holds of a run, tensor by tensor, each under the fully qualified name of its parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from goku_core.pipeline.errors import GokuError

WEIGHTS, AVERAGED = "model", "ema"


@dataclass
class State:
    """Everything that a step changes."""

    model: nn.Module
    ema: nn.Module
    optimizers: Mapping[str, torch.optim.Optimizer]


def named_tensors(state: State) -> dict[str, Tensor]:
    """model.NAME, ema.NAME and OPTIMIZER.NAME.MOMENT, where NAME is that of the parameter; the tensors themselves, no copies."""
    # First: a network whose blocks are gathered for a pass puts its shards back in place when it is asked for its state.
    found = {f"{WEIGHTS}.{name}": value for name, value in state.model.state_dict().items()}
    found |= {f"{AVERAGED}.{name}": value for name, value in state.ema.state_dict().items()}
    for optimizer, name, parameter, _ in _optimized(state):
        for moment, value in state.optimizers[optimizer].state.get(parameter, {}).items():
            if not isinstance(value, Tensor):
                raise GokuError(f"{optimizer}: {moment} of {name} is no tensor, so it cannot be saved.")
            found[f"{optimizer}.{name}.{moment}"] = value
    return {name: value.detach() for name, value in found.items()}


def optimized_names(state: State) -> dict[str, list[str]]:
    """Names of the parameters that each optimizer moves."""
    names: dict[str, list[str]] = {optimizer: [] for optimizer in state.optimizers}
    for optimizer, name, _, _ in _optimized(state):
        names[optimizer].append(name)
    return names


def refuse_other_optimizers(state: State, saved: Mapping[str, Sequence[str]], where: str) -> None:
    """Raises GokuError where the optimizers move other parameters than those of the checkpoint did."""
    here = optimized_names(state)
    if here.keys() != saved.keys():
        raise GokuError(f"{where} was written with {_list(saved)}; this run has {_list(here)}. Train with the same.")
    for optimizer, names in here.items():
        if other := sorted(set(names) ^ set(saved[optimizer])):
            raise GokuError(
                f"{where}: {optimizer} moves other parameters here than there: {_list(other)}. Train with the same optimizer "
                "and the same frozen parameters, or start the phase again."
            )


def make_room(state: State, saved: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
    """Gives the optimizers a tensor for every moment of the checkpoint: a new optimizer has none.

    saved  type and shape by name
    """
    moments: dict[str, list[str]] = {}
    for full in saved:
        owner, moment = full.rsplit(".", 1)
        moments.setdefault(owner, []).append(moment)
    for optimizer, name, parameter, group in _optimized(state):
        before = state.optimizers[optimizer].state.get(parameter, {})
        room = {}
        for moment in moments.get(f"{optimizer}.{name}", ()):
            dtype, shape = saved[f"{optimizer}.{name}.{moment}"]
            there = before.get(moment)
            fits = isinstance(there, Tensor) and there.dtype == dtype and tuple(there.shape) == shape
            room[moment] = there if fits else _empty(parameter, moment, dtype, shape, group)
        state.optimizers[optimizer].state.pop(parameter, None)
        if room:
            state.optimizers[optimizer].state[parameter] = room


def _empty(
    parameter: Tensor, moment: str, dtype: torch.dtype, shape: tuple[int, ...], group: Mapping[str, object]
) -> Tensor:
    """Sharded as the parameter is, or whole where its shape is another one."""
    if moment != "step" and tuple(parameter.shape) == shape:
        return torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
    # torch keeps the count of steps on the host unless the optimizer is a fused or a captured kernel.
    on_device = moment != "step" or group.get("fused") or group.get("capturable")
    return torch.zeros(shape, dtype=dtype, device=parameter.device if on_device else "cpu")


def _optimized(state: State) -> Iterator[tuple[str, str, Tensor, Mapping[str, object]]]:
    names = {id(parameter): name for name, parameter in state.model.named_parameters()}
    for optimizer, own in state.optimizers.items():
        if optimizer in (WEIGHTS, AVERAGED):
            raise GokuError(f"an optimizer cannot be named {optimizer}: that is where a checkpoint keeps weights.")
        for group in own.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in names:
                    raise GokuError(
                        f"{optimizer} moves a tensor that is no parameter of the model. Make it after sharding."
                    )
                yield optimizer, names[id(parameter)], parameter, group


def _list(names: object) -> str:
    shown = list(names)  # type: ignore[call-overload]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
