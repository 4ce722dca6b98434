"""One of several processes: trains and notes how long its steps take, or times the messages between processes alone.

python -m torch.distributed.run --nproc-per-node 2 benchmarks/distributed/worker.py train conv 128 OUT
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import calibrae as cb
from calibrae.training import EagerStep, join_world
from calibrae.training._sharded import is_cut

SHAPES = {"mlp": (1, 28, 28), "conv": (3, 32, 32)}
STEPS, WARM = 40, 8


def model_for(network: str) -> cb.VAE:
    """The default network of a kind."""
    return cb.build("sigma-vae", data_shape=SHAPES[network], latent_dim=16, network=network)


def train(network: str, batch_size: int, out: Path) -> None:
    """Write the seconds of each step of a short run, and those of its parts."""
    data = np.random.default_rng(0).integers(0, 256, (batch_size * STEPS + 2000, *SHAPES[network]), dtype=np.uint8)
    began: list[float] = []
    call = EagerStep.__call__

    def noted(self: EagerStep, *given: Any) -> Any:
        began.append(time.perf_counter())
        return call(self, *given)

    EagerStep.__call__ = noted  # type: ignore[method-assign]
    how: dict[str, Any] = {"epochs": 1, "acceleration": "off", "precision": "fp32", "threads": 1}
    options = cb.DataOptions(validation_fraction=0.01, test_fraction=0.01)
    cb.fit(model_for(network), data, batch_size=batch_size, options=options, quiet=True, pictures=False, **how)
    seconds = np.diff(began)[WARM:].tolist()
    (out / f"{os.environ.get('RANK', os.getpid())}.json").write_text(json.dumps(seconds))


def held_bytes() -> int:
    """Bytes of all tensors that this process holds, each storage once."""
    tensors = [found for found in gc.get_objects() if isinstance(found, torch.Tensor) and not is_cut(found)]
    return sum({found.untyped_storage().data_ptr(): found.untyped_storage().nbytes() for found in tensors}.values())


def cut(width: int, fsdp: bool, out: Path) -> None:
    """Write the memory of the tensors that a process holds between two steps of a large MLP, and its seconds a step."""
    data = np.random.default_rng(0).integers(0, 256, (64 * 12, 1, 28, 28), dtype=np.uint8)
    model = cb.build(
        "sigma-vae",
        data_shape=(1, 28, 28),
        latent_dim=16,
        network="mlp",
        options=cb.NetworkOptions(hidden=(width,) * 3),
    )
    began, held, call = list[float](), list[int](), EagerStep.__call__

    def noted(self: EagerStep, *given: Any) -> Any:
        began.append(time.perf_counter())
        held.append(held_bytes())
        return call(self, *given)

    EagerStep.__call__ = noted  # type: ignore[method-assign]
    how: dict[str, Any] = {
        "epochs": 1,
        "acceleration": "off",
        "precision": "fp32",
        "threads": 1,
        "fsdp": fsdp,
        "lr": 1e-4,
    }
    cb.fit(model, data, batch_size=64, quiet=True, pictures=False, **how)
    found = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "megabytes": held[-1] / 2**20,
        "seconds": statistics.median(np.diff(began)[2:].tolist()),
    }
    (out / f"{os.environ['RANK']}.json").write_text(json.dumps(found))


def messages(network: str, out: Path) -> None:
    """Write the seconds of a message as large as the gradients, and of a small one, with nothing between them."""
    world = join_world("cpu")
    count = sum(p.numel() for p in model_for(network).parameters())
    found = {"parameters": count}
    for name, size in (("gradients", count), ("small", 8)):
        own, seconds = torch.zeros(size), []
        for _ in range(200):
            start = time.perf_counter()
            world.sum(own)
            seconds.append(time.perf_counter() - start)
        found[name] = statistics.median(seconds[20:])
    if world.is_first:
        (out / "messages.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, chosen, place = sys.argv[1], sys.argv[2], Path(sys.argv[-1])
    if what == "train":
        train(chosen, int(sys.argv[3]), place)
    elif what == "cut":
        cut(int(chosen), sys.argv[3] == "on", place)
    else:
        messages(chosen, place)
