"""What a user can ask of training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import ArgumentError


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of one training run; all are stored in `config.toml`.

    Attributes:
        epochs: passes over the training set.
        batch_size: examples per optimiser step, over all micro-batches.
        accumulate: micro-batches that a batch is cut into to save memory. The loss is that of the whole batch: an optimal
            sigma is first found over all of them, at the cost of one more forward pass.
        lr: peak learning rate of AdamW.
        weight_decay: of weights (not of biases or sigma).
        warmup: share of all steps over which the learning rate rises; it then falls as a cosine to zero.
        clip: largest norm of the gradient of the loss in nats per data dimension; 0 for none.
        flip: mirror training examples left to right at random. It changes what is modelled: not for digits or text.
        kl_warmup: epochs over which beta rises linearly from 0.
        averaging: decay per step of an exponential average of the weights, which is then validated and kept; 0 for none.
        patience: epochs without a better validation ELBO after which training stops; 0 to never stop early.
        seed: of weights, order and noise.
        precision: `fp32`, `bf16` (networks only), or `auto`: whichever multiplies faster here.
        compile: `on`, `off` or `auto`: compile where it pays.
        accelerator: of Lightning Fabric: `auto`, `cpu`, `cuda`, `mps`.
        eval_batch_size: examples at once without gradients.
    """

    epochs: int = 20
    batch_size: int = 64
    accumulate: int = 1
    lr: float = 4e-3
    weight_decay: float = 0.1
    warmup: float = 0.05
    clip: float = 0.065
    flip: bool = False
    kl_warmup: float = 0.0
    averaging: float = 0.0
    patience: int = 0
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    accelerator: str = "auto"
    eval_batch_size: int = 512

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "eval_batch_size"):
            self._require(name, "at least 1", getattr(self, name) >= 1)
        for name in ("weight_decay", "clip", "kl_warmup", "patience"):
            self._require(name, "0 or more", getattr(self, name) >= 0)
        for name in ("warmup", "averaging"):
            self._require(name, "in [0, 1)", 0 <= getattr(self, name) < 1)
        self._require("lr", "a positive number", math.isfinite(self.lr) and self.lr > 0)
        self._require("accumulate", f"at most batch_size = {self.batch_size}", self.accumulate <= self.batch_size)
        self._require("precision", "auto, fp32 or bf16", self.precision in ("auto", "fp32", "bf16"))
        self._require("compile", "auto, on or off", self.compile in ("auto", "on", "off"))

    def _require(self, name: str, what: str, holds: bool) -> None:
        if not holds:
            raise ArgumentError(f"`{name}` must be {what}; got {getattr(self, name)}.")
