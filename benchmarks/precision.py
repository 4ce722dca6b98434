"""What training in bf16 moves the final ELBO by: the same seeds in float32 and in bf16, evaluated alike in float32.

    python benchmarks/precision.py path/to/cifar10 [--network conv] [--epochs 3] [--seeds 0 1 2] [--lr 4e-3] [--device cpu] [--compile on]

`--network preset` is the default network; `conv` is that of the throughput benchmark, half of whose gradients take nine products instead of
sixteen where they are compiled in bf16, which rounds them more.

Where the machine has no bf16 (`--precision auto` would not take it), its rounding is put in by hand: inputs, weights and results of every
matrix product and convolution are rounded to bf16, gradients likewise, and the sums inside of them are in float32, as bf16 hardware does.
`--check` compares one gradient of it with autocast's, compiled or not, which such a machine can do as well, a hundred times slower.
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
from unittest.mock import patch

import torch
from throughput.machine import peak
from throughput.networks import LATENTS as PLAIN_LATENTS
from throughput.networks import SHAPES, build
from torch import Tensor
from torch.nn import functional as nnf
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

import calibrae as cb
from calibrae.acceleration import _winograd, compile_alone, fast_gradients
from calibrae.acceleration._precision import MIN_GAIN  # from where on `--precision auto` takes bf16
from calibrae.data import Data, load_data
from calibrae.training import TrainSettings

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


def network(name: str, data_shape: tuple[int, ...]) -> cb.VAE:
    """A new model."""
    if name == "preset":
        return cb.build("sigma-vae", data_shape=data_shape, latent_dim=LATENTS)
    prior, posterior = cb.StandardNormalPrior(PLAIN_LATENTS[name]), cb.GaussianPosterior("log_std")
    return cb.VAE(*build(name), cb.GaussianLikelihood("optimal"), prior, posterior=posterior)


def trained(
    data: Data, seed: int, arguments: argparse.Namespace, precision: str, mode: AbstractContextManager
) -> float:
    """Test ELBO of a run, nats, evaluated in float32."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        model = network(arguments.network, data.spec.data_shape)
        with mode:
            run = cb.fit(
                model, data, f"{folder}/run", epochs=arguments.epochs, seed=seed, lr=arguments.lr, quiet=True, pictures=False,
                compile=arguments.compile, precision=precision, device=arguments.device,
            )  # fmt: skip
        elbo = cb.evaluate(run).elbo_nats
    assert elbo is not None
    return elbo


def check(name: str) -> None:
    """Distances of gradients from those in float32: rounded by hand, by autocast, compiled, and compiled without the nine products."""
    torch.manual_seed(0)
    shape = SHAPES["conv"]
    model = network(name, shape)
    x, noise = torch.rand(64, *shape), torch.randn(64, model.latent_dim)
    x, model = x.contiguous(memory_format=torch.channels_last), model.to(memory_format=torch.channels_last)

    def loss(x: Tensor, noise: Tensor) -> Tensor:
        return -model.elbo(x, eps=noise).elbo.mean()

    def gradients(mode: AbstractContextManager, *, compiled: bool = False) -> list[Tensor]:
        model.zero_grad()
        function = compile_alone(loss, device=x.device) if compiled else loss
        with mode, fast_gradients(model):
            function(x, noise).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    def autocast() -> AbstractContextManager:
        return torch.autocast("cpu", torch.bfloat16)

    exact = gradients(nullcontext())
    found = {
        "rounded by hand": gradients(RoundedProducts()),
        "autocast": gradients(autocast()),
        "autocast, compiled": gradients(autocast(), compiled=True),
    }
    with patch.object(_winograd, "applies", return_value=False):
        found["autocast, compiled, no nine products"] = gradients(autocast(), compiled=True)
    for how, rounded in found.items():
        distances = [float((r - e).norm() / e.norm()) for r, e in zip(rounded, exact, strict=True)]
        print(
            f"relative distance from float32, {how}: mean over parameters {statistics.mean(distances):.4f}, largest {max(distances):.4f}"
        )


def main() -> None:
    """Take turns, print the differences, keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--network", default="preset", choices=["preset", "conv"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lr", type=float, default=TrainSettings().lr)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", default="off", choices=["on", "off"])
    parser.add_argument("--check", action="store_true", help="Compare one gradient, rounded in every way, and stop.")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.network)
        return
    device = torch.device(arguments.device)
    by_hand = peak(torch.bfloat16, device) < MIN_GAIN * peak(torch.float32, device)
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
        "data": Path(arguments.data).name, "network": arguments.network, "lr": arguments.lr, "epochs": arguments.epochs, "seeds": arguments.seeds, "how": how, "compile": arguments.compile, "nats": pairs, "moved": moved,
        "standard_error": error, "per_thousand": per_thousand, "date": date.today().isoformat(), "torch": torch.__version__,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    name = "precision" if arguments.network == "preset" else f"precision-{arguments.network}"
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
