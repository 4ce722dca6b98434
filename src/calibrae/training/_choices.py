"""Choices that a run makes by measuring, which it keeps when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import torch

from .._plain import record_of
from ..acceleration import (
    AcceleratedStep,
    Compiled,
    StepTrial,
    arrange,
    choose_compile,
    choose_layout,
    choose_threads,
    compile_as_before,
    undisturbed,
)
from ..runs import versions
from ._loss import PieceLoss
from ._settings import TrainSettings

MOVING = ("torch", "numpy", "calibrae")  # packages whose version moves the last bits of a number


@final
@dataclass(frozen=True)
class Choices:
    """Choices of a run; the same ones give the same numbers, to the last bit, on the same machine.

    Attributes:
        precision: `fp32` or `bf16`.
        threads: threads of the CPU.
        is_channels_last: whether pictures and kernels are channels-last.
        compiled: part of a step that is compiled.
        is_scoring_compiled: whether validation is; `None` before the first one.
    """

    precision: str
    threads: int
    is_channels_last: bool = False
    compiled: Compiled = "none"
    is_scoring_compiled: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Choices:
        """The inverse of `to_dict`."""
        return record_of(cls, stored)


def choose(
    step: AcceleratedStep, pieces: list[Any], loss: PieceLoss, settings: TrainSettings, total_steps: int
) -> tuple[bool, str]:
    """Choose layout, threads and compilation of the steps by measuring; returns whether the layout is channels-last, and the words."""
    trial = StepTrial(step, pieces)

    def set_layout(order: torch.memory_format) -> None:
        loss.memory_format = order

    is_channels_last = choose_layout(trial, pieces[0].values, set_layout)
    said = ""
    if settings.threads == "auto":
        with undisturbed(step.eager):
            count, why = choose_threads(trial, step.device)
        torch.set_num_threads(count)
        said = f"{_threads(count)} ({why}), "
    return is_channels_last, said + choose_compile(settings.compile, trial, total_steps)


def choose_again(
    step: AcceleratedStep, pieces: list[Any], loss: PieceLoss, settings: TrainSettings, before: Choices
) -> str:
    """Take the steps as an earlier part of the run took them; returns the words."""
    if before.is_channels_last:
        arrange(loss, torch.channels_last)
        loss.memory_format = torch.channels_last
    said = ""
    if settings.threads == "auto":
        torch.set_num_threads(before.threads)
        said = f"{_threads(before.threads)} (as before), "
    return said + compile_as_before(before.compiled, StepTrial(step, pieces))


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def surroundings(device: torch.device, processes: int) -> dict[str, Any]:
    """Everything beside the run that moves the last bits of its numbers."""
    name = (
        f"a processor with {torch.backends.cpu.get_cpu_capability()}"
        if device.type == "cpu"
        else torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else device.type
    )
    known = versions()
    found: dict[str, Any] = {package: known[package] for package in MOVING if package in known}
    return found | {"device": name, "threads": torch.get_num_threads(), "processes": processes}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what has changed in words; empty if nothing has.

    Examples:
        >>> changes({"torch": "2.6", "threads": 2}, {"torch": "2.13", "threads": 2})
        'torch was 2.6, now 2.13'
    """
    return "; ".join(f"{name} was {before.get(name)}, now {now[name]}" for name in now if before.get(name) != now[name])
