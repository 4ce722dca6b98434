"""A device of its own in main memory, as strict as a graphics card: what works here mixes no devices.

Its operations are the CPU's, so its numbers are the CPU's but for rounding. But as on CUDA an operation on tensors of two devices fails, scalars
and the rows of an index apart, and only `.cpu()`, `.to(...)` and `copy_` lead from one to the other. As on Apple's there is no float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "second"
aten = torch.ops.aten
CROSSES = {aten.copy_.default, aten._to_copy.default}
INDEXES = {aten.index.Tensor, aten._unsafe_index.Tensor, aten.index_put.default, aten.index_put_.default}


class Backend(_DummyBackendModule):
    """Module that torch knows as `torch.second`; it has a generator of its own, which nothing draws from."""

    generator = torch.Generator()

    def get_rng_state(self, device: Any = None) -> Tensor:
        """State of the device's generator."""
        return self.generator.get_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        """Bring it back."""
        self.generator.set_state(state)

    def manual_seed_all(self, seed: int) -> None:
        """Seed it, as `torch.manual_seed` does."""
        self.generator.manual_seed(seed)

    def synchronize(self, device: Any = None) -> None:
        """Nothing is ever under way."""


_setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
DEVICE = torch.device(NAME, 0)


class There(Tensor):
    """A tensor on the second device."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> There:
        if raw.dtype is torch.float64:
            raise TypeError(f"{NAME}:0 has no float64, as Apple's devices have none")
        self = Tensor._make_wrapper_subclass(
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype, device=DEVICE
        )
        self.raw = raw
        return self

    def __repr__(self) -> str:
        return f"There({self.raw})"

    def tolist(self) -> Any:
        """Torch has none for subclasses."""
        return self.detach().cpu().tolist()

    # torch moves modules in place if their tensors can be taken apart
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["raw"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> There:
        return There(inner["raw"])

    # a file holds plain tensors
    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().raw.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        _refuse_mixtures(func, args, tensors)
        arrives = _arrives(func, args, kwargs)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        plain_args, plain_kwargs = tree_map(_raw, (args, kwargs))
        found = func(*plain_args, **plain_kwargs)
        known = {id(x.raw): x for x in tensors if isinstance(x, There)}  # what is changed in place is returned
        return tree_map(lambda x: _wrapped(x, known), found) if arrives else found


def _raw(x: Any) -> Any:
    return x.raw if isinstance(x, There) else x


def _wrapped(x: Any, known: dict[int, There]) -> Any:
    if not isinstance(x, Tensor):
        return x
    return known[id(x)] if id(x) in known else There(x)


def _refuse_mixtures(func: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
    if func in CROSSES or (func in INDEXES and isinstance(args[0], There)):
        return
    elsewhere = [x for x in tensors if not isinstance(x, There) and x.ndim > 0]
    if elsewhere:
        raise RuntimeError(
            f"{func}: expected all tensors on {DEVICE}, found one of {tuple(elsewhere[0].shape)} on the CPU"
        )


def _arrives(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the result lies on the second device."""
    if func is aten.copy_.default:
        return isinstance(args[0], There)
    device = kwargs.get("device")
    return device is None or torch.device(device).type == NAME


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **_: Any) -> There:
    return There(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> There:
    return There(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, *_: Any) -> Tensor:
    _raw(target).copy_(_raw(source))
    return target


KERNELS = torch.library.Library("aten", "IMPL")  # of what makes a tensor there out of none
KERNELS.impl("empty.memory_format", _empty, "PrivateUse1")
KERNELS.impl("empty_strided", _empty_strided, "PrivateUse1")
KERNELS.impl("_copy_from", _copy_from, "PrivateUse1")
