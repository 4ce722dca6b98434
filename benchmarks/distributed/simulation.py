"""Simulation of training in several processes: who computes how long, who waits for whom, what is sent, read and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FORWARD = 1 / 3  # share of a step's computing before the first message: a backward pass takes about two forward ones


@dataclass(frozen=True)
class Machine:
    """What a step is made of.

    Attributes:
        computing: seconds of a step's computing, as measured or assumed; each process draws from them at each step.
        sharing: processes that take turns on one core or card.
        gradients: seconds of the message of the gradients.
        small: seconds of a small message, of which a step has three: the scale's sums, the loss's sums, and what has come up.
        loading: seconds in which the data of one step can be read and decoded; they are read while the step before computes.
        saving: seconds of a save, during which all processes wait.
        save_every: seconds between saves.
    """

    computing: Sequence[float]
    sharing: float = 1.0
    gradients: float = 0.0
    small: float = 0.0
    loading: float = 0.0
    saving: float = 0.0
    save_every: float = 300.0


def simulate(machine: Machine, processes: int, steps: int = 2000, seed: int = 0) -> np.ndarray:
    """Seconds of each of some steps.

    Each process computes for a time of its own; before each message it waits for the slowest. Reading the next batch goes on beside the step.
    """
    rng = np.random.default_rng(seed)
    drawn = machine.sharing * rng.choice(np.asarray(machine.computing), (2, steps, processes))
    before, after = FORWARD * drawn[0].max(1), (1.0 - FORWARD) * drawn[1].max(1)
    talk = 3.0 * machine.small + machine.gradients if processes > 1 else 0.0
    step = np.maximum(before + after + talk, machine.loading)
    return step * (1.0 + machine.saving / machine.save_every)


def ring_seconds(count: int, processes: int, bandwidth: float, latency: float = 2e-5) -> float:
    """Seconds of a ring all-reduce: each process sends and receives `2 (W - 1) / W` times the bytes, in `2 (W - 1)` messages."""
    rounds = 2 * (processes - 1)
    return rounds / processes * 4.0 * count / bandwidth + rounds * latency
