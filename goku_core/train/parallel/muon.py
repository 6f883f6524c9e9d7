"""Muon over matrices that lie in shards."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim._muon import _adjust_lr, _zeropower_via_newtonschulz


class ShardedMuon(torch.optim.Muon):
    """`torch.optim.Muon` whose parameters may be in shards; momentum is kept in shards too.

    Orthogonalisation needs whole matrices. Each update is gathered, one matrix at a time, and every rank orthogonalises all of
    them: per step the traffic of one more all-gather of the matrices in float32, and the products of one process on each rank.
    The values are those of whole matrices.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        if closure is not None:
            raise ValueError("a step is taken on gradients that are there: no closure")
        for group in self.param_groups:
            parameters, gradients, momenta = [], [], []
            self._init_group(group, parameters, gradients, momenta)
            for parameter, gradient, momentum in zip(parameters, gradients, momenta, strict=True):
                momentum.lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
                whole = update.full_tensor() if isinstance(update, DTensor) else update
                whole = _zeropower_via_newtonschulz(whole, group["ns_coefficients"], group["ns_steps"], group["eps"])
                if isinstance(parameter, DTensor):
                    mesh, placements = parameter.device_mesh, parameter.placements
                    whole = distribute_tensor(whole.contiguous(), mesh, placements, src_data_rank=None)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], parameter.shape)
                parameter.add_(whole, alpha=-rate)
