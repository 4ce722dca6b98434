"""Networks that are cut over processes (FSDP): each process holds a piece of every weight, of its gradient and of its moments."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..models import VAE

KERNELS = ("fused", "foreach")  # how an optimiser of torch computes, whatever the one did whose state it takes over
LARGE = 1 << 20  # weights of a module that is gathered on its own, and not with the rest of its network


def cut(model: VAE) -> VAE:
    """A copy of a model whose encoder and decoder are cut over all processes.

    The weights of a network are whole only while it computes, and those of its large parts only while these do. Parts that are no
    networks (a learned scale, a prior) are whole in each process.

    Raises:
        ArgumentError: if the networks share weights.
    """
    from torch.distributed.fsdp import fully_shard

    copy, networks = deepcopy(model), (model.encoder, model.decoder)
    weights = [{id(p) for p in network.parameters()} for network in networks]
    if weights[0] & weights[1]:
        raise ArgumentError(
            "networks that are cut over processes (--fsdp) must not share weights; encoder and decoder do. Train without --fsdp."
        )
    for network in (copy.encoder, copy.decoder):
        if not any(True for _ in network.parameters()):
            continue
        network.register_forward_hook(_no_view)
        for part in reversed(list(network.modules())):
            own = sum(p.numel() for p in part.parameters(recurse=False))
            if part is not network and own >= LARGE:
                fully_shard(part)
        fully_shard(network)
    return copy


def _no_view(network: nn.Module | None, given: Any, output: Any) -> Any:
    """The output of a network, copied where it is a view, as of `nn.Unflatten`: what is changed in place loses FSDP's hooks then."""
    if isinstance(output, tuple):
        return tuple(_no_view(network, given, part) for part in output)
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def is_cut(tensor: object) -> bool:
    """Tell whether a process has a piece of a tensor only."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def own_piece(tensor: Tensor) -> Tensor:
    """The piece of a cut tensor that this process has; another one as it is."""
    piece: Tensor = tensor.to_local() if is_cut(tensor) else tensor  # type: ignore[attr-defined]
    return piece


def whole(tree: Any) -> Any:
    """Nested dicts and lists with whole tensors in place of cut ones. All processes must call it together."""
    if isinstance(tree, Mapping):
        return {name: whole(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [whole(value) for value in tree]
    return tree.full_tensor() if is_cut(tree) else tree


def load_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Give a model, cut or not, whole weights. All processes must call it together."""
    own = model.state_dict()
    model.load_state_dict({name: _cut_like(own.get(name), value) for name, value in weights.items()})


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Give an optimiser of cut or whole weights the state of whole ones. All processes must call it together."""
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    moments = {
        i: {name: _cut_like(trained[int(i)], value) for name, value in of.items()} for i, of in state["state"].items()
    }
    own = [{name: group[name] for name in KERNELS if name in group} for group in optimiser.param_groups]
    groups = [group | kernel for group, kernel in zip(state["param_groups"], own, strict=True)]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _cut_like(like: object, value: Any) -> Any:
    """A whole tensor cut as another one of its shape is; anything else as it is."""
    if not is_cut(like) or not isinstance(value, Tensor) or value.shape != like.shape:  # type: ignore[attr-defined]
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)  # type: ignore[attr-defined]
