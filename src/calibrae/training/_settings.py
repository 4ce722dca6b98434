"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from .._plain import require_types
from ..errors import ArgumentError
from ._saving import parse_interval

FREE_ON_RESUME = frozenset(
    {
        "epochs",
        "patience",
        "lr",
        "grad_clip_norm",
        "eval_batch_size",
        "threads",
        "retain_memory",
        "save_every",
        "keep",
        "max_minutes",
        "fsdp",
    }
)


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of one training run; all are stored in `config.toml`.

    Attributes:
        epochs: passes over the training set; `None`: until the validation loss has settled, or 18,000 steps are over.
        batch_size: examples per optimiser step, over all micro-batches.
        micro_batches: number of pieces that a batch is cut into to save memory. The loss is that of the whole batch: an optimal
            scale is first computed over all of them, at the cost of one more forward pass.
        lr: peak learning rate of AdamW.
        weight_decay: AdamW's weight decay, for matrices (not for biases or the scale); `None`: 0.1, and 0 for a linear network, whose
            optimum decay would move.
        lr_warmup: share of all steps over which the learning rate rises; it then falls as a cosine to zero; in each round anew.
        grad_clip_norm: largest norm of the gradient of the loss in nats per data dimension; 0 for none.
        horizontal_flip: mirror training examples left to right at random. It changes what is modelled: not for digits or text.
        ema_decay: decay per step of an exponential moving average of the weights, which is then validated and kept; 0 for none.
        patience: epochs without a better validation loss after which training stops; 0 to never stop early.
        seed: seed of order, noise and, while the run trains, the global generators, from which modules such as dropout draw (and of the
            weights, where the command line builds the model).
        precision: `fp32`, `bf16` (networks only), or `auto`: whichever multiplies faster here.
        compile: `on`, `off` or `auto`: compile where it pays.
        acceleration: `on`, or `off` for the plain step: nothing compiled, rearranged, prefetched or measured.
        device: `cpu`, `cuda`, `mps`, or `auto`: CUDA if it can be used, else the CPU.
        eval_batch_size: examples at once without gradients.
        threads: threads of the CPU: a number, `auto` to choose by measuring, or `None` to leave torch's setting. It is a setting of
            the whole process while the run trains.
        save_every: how often the state is saved within an epoch, in steps (`1000`) or in time (`"5min"`).
        keep: states that are kept; the newest whole one is what a run goes on from.
        fsdp: cut the networks, their gradients and moments into a piece for each process, for networks too large for one card;
            without effect on one process.
        max_minutes: minutes of this part of the run, after which it saves and stops; `None` for no limit.
        retain_memory: hold on to freed memory between steps, which is faster on Linux. It is a setting of the whole process while
            the run trains.
    """

    epochs: int | None = None
    batch_size: int = 64
    micro_batches: int = 1
    lr: float = 4e-3
    weight_decay: float | None = None
    lr_warmup: float = 0.05
    grad_clip_norm: float = 0.065
    horizontal_flip: bool = False
    ema_decay: float = 0.0
    patience: int = 0
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    acceleration: Literal["on", "off"] = "on"
    device: str = "auto"
    eval_batch_size: int = 512
    threads: int | Literal["auto"] | None = None
    retain_memory: bool = False
    save_every: str | int = "5min"
    keep: int = 2
    max_minutes: float | None = None
    fsdp: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        self._require("epochs", "at least 1", self.epochs is None or self.epochs >= 1)
        parse_interval(self.save_every)
        self._require("max_minutes", "a positive number", self.max_minutes is None or self.max_minutes > 0)
        for name in ("batch_size", "micro_batches", "eval_batch_size", "keep"):
            self._require(name, "at least 1", getattr(self, name) >= 1)
        for name in ("weight_decay", "grad_clip_norm", "patience"):
            self._require(name, "0 or more", (getattr(self, name) or 0) >= 0)
        for name in ("lr_warmup", "ema_decay"):
            self._require(name, "in [0, 1)", 0 <= getattr(self, name) < 1)
        self._require(
            "ema_decay", "0 with fsdp: an average is kept of whole weights", not (self.fsdp and self.ema_decay)
        )
        self._require("lr", "a positive number", math.isfinite(self.lr) and self.lr > 0)
        self._require("micro_batches", f"at most batch_size = {self.batch_size}", self.micro_batches <= self.batch_size)
        self._require("precision", "auto, fp32 or bf16", self.precision in ("auto", "fp32", "bf16"))
        self._require("compile", "auto, on or off", self.compile in ("auto", "on", "off"))
        self._require("acceleration", "on or off", self.acceleration in ("on", "off"))
        is_count: Any = isinstance(self.threads, int) and self.threads >= 1
        self._require("threads", "a number from 1, or auto", self.threads in (None, "auto") or is_count)

    def _require(self, name: str, rule: str, holds: bool) -> None:
        if not holds:
            raise ArgumentError(f"`{name}` must be {rule}; got {getattr(self, name)}.")
