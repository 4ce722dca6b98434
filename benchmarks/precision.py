"""What training in bf16 moves the final ELBO by: the same seeds in float32 and in bf16, evaluated alike in float32.

    python benchmarks/precision.py path/to/cifar10 [--epochs 3] [--seeds 0 1 2] [--accelerator cpu] [--compile on]

Where the machine has no bf16 (`--precision auto` would not take it), its rounding is put in by hand: inputs, weights and results of every
matrix product and convolution are rounded to bf16, gradients likewise, and the sums inside of them are in float32, as bf16 hardware does.
`--check` compares one step of it with autocast itself, which such a machine can do as well, a hundred times slower.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import torch
from throughput.machine import peak
from torch import Tensor
from torch.nn import functional as nnf
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

import calibrae as cb
from calibrae.data import Data, load_data
from calibrae.training._hardware import WORTH  # from where on `--precision auto` takes bf16

RESULTS = Path(__file__).parent / "results"
LATENTS = 50
PRODUCTS = {nnf.linear, torch.conv1d, torch.conv2d, torch.conv_transpose1d, torch.conv_transpose2d, torch.matmul}


class Rounded(torch.autograd.Function):
    """A tensor, and its gradient, rounded to bf16 and kept in float32."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        """Round."""
        return x.bfloat16().float()

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        """Round the gradient."""
        return gradients[0].bfloat16().float()


class RoundedProducts(TorchFunctionMode):
    """Every product takes and gives numbers that bf16 has."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Round around the products; leave all else."""
        if func not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map(_rounded, (args, kwargs or {}))
        return _rounded(func(*args, **kwargs))


def _rounded(x: Any) -> Any:
    return Rounded.apply(x) if isinstance(x, Tensor) and x.dtype == torch.float32 else x


def trained(
    data: Data, seed: int, arguments: argparse.Namespace, precision: str, mode: AbstractContextManager
) -> float:
    """Test ELBO of a run, nats, evaluated in float32."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        model = cb.build("sigma-vae", data_shape=data.spec.data_shape, latent_dim=LATENTS)
        with mode:
            run = cb.fit(
                model, data, f"{folder}/run", epochs=arguments.epochs, seed=seed, quiet=True, pictures=False,
                compile=arguments.compile, precision=precision, accelerator=arguments.accelerator,
            )  # fmt: skip
        elbo = cb.evaluate(run).elbo_nats
    assert elbo is not None
    return elbo


def check() -> None:
    """Distance of one step's gradient, by hand and by autocast, from float32, and of the two from each other."""
    torch.manual_seed(0)
    model = cb.build("sigma-vae", data_shape=(3, 32, 32), latent_dim=8, options=cb.NetworkOptions(width=16))
    x, noise = torch.rand(8, 3, 32, 32), torch.randn(8, 8)

    def gradient(mode: AbstractContextManager) -> Tensor:
        model.zero_grad()
        with mode:
            (-model.elbo(x, noise).elbo.sum()).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    exact = gradient(nullcontext())
    by_hand, autocast = gradient(RoundedProducts()), gradient(torch.autocast("cpu", torch.bfloat16))
    for name, found in (
        ("by hand", by_hand),
        ("by autocast", autocast),
        ("difference of the two", exact + by_hand - autocast),
    ):
        print(
            f"relative distance of a gradient from float32, {name}: {float((found - exact).norm() / exact.norm()):.4f}"
        )


def main() -> None:
    """Take turns, print the differences, keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--compile", default="off", choices=["on", "off"])
    parser.add_argument("--check", action="store_true", help="Compare the rounding by hand with autocast, and stop.")
    arguments = parser.parse_args()
    if arguments.check:
        check()
        return
    device = torch.device(arguments.accelerator)
    by_hand = peak(torch.bfloat16, device) < WORTH * peak(torch.float32, device)
    data = load_data(arguments.data)
    pairs = []
    for seed in arguments.seeds:
        exact = trained(data, seed, arguments, "fp32", nullcontext())
        if by_hand:
            rounded = trained(data, seed, arguments, "fp32", RoundedProducts())
        else:
            rounded = trained(data, seed, arguments, "bf16", nullcontext())
        pairs.append((exact, rounded))
        print(f"seed {seed}: {exact:.2f} nats in float32, {rounded:.2f} in bf16, {rounded - exact:+.2f}", flush=True)
    differences = [rounded - exact for exact, rounded in pairs]
    moved = statistics.mean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
    per_thousand = 1000 * moved / abs(statistics.mean(exact for exact, _ in pairs))
    how = "rounded by hand" if by_hand else "autocast"
    print(f"bf16 ({how}) moves the ELBO by {moved:+.2f} +- {error:.2f} nats, {per_thousand:+.2f} per 1000")
    record = {
        "data": Path(arguments.data).name, "epochs": arguments.epochs, "seeds": arguments.seeds, "how": how, "compile": arguments.compile, "nats": pairs, "moved": moved,
        "standard_error": error, "per_thousand": per_thousand, "date": date.today().isoformat(), "torch": torch.__version__,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "precision.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
