"""Check, in a minute or two, that an installation computes what it says."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from .. import functional
from .._types import Batch, DataSpec
from ..data import load_data
from ..evaluation import (
    AnnealedSettings,
    Ring,
    annealed_importance,
    evaluate_model,
    exact_linear_elbo,
    importance_weighted,
    linear_vae_at_ppca,
    quadrature_log_likelihood,
    training_spectrum,
)
from ..models import VAE, build
from ..runs import load_model
from ._fit import fit
from ._train import seeded_build

LATENT_DIM = 4


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison with an exact answer.

    Attributes:
        name: name of the comparison.
        error: largest difference found.
        tolerance: largest allowed.
        seconds: it took.
        unit: unit of the difference.
    """

    name: str
    error: float
    tolerance: float
    seconds: float
    unit: str = "nats"

    @property
    def passed(self) -> bool:
        """Tell whether the error is a number and within the tolerance."""
        return math.isfinite(self.error) and self.error <= self.tolerance


def self_test() -> Iterator[Check]:
    """Run all checks, one after another."""
    for name, tolerance, unit, check in CHECKS:
        start = time.perf_counter()
        error = check()
        yield Check(name, error, tolerance, time.perf_counter() - start, unit)


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _kl() -> float:
    mean, log_std = _random(2, 50, 8)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0))
    return float((functional.kl_standard_normal(mean, log_std) - expected).abs().max())


def _erratum() -> float:
    value = functional.kl_standard_normal(torch.zeros(1, 1).double(), -torch.ones(1, 1).double())
    return abs(float(value) - (1.0 + (math.exp(-2.0) - 1.0) / 2.0))


def _nll() -> float:
    x, mean = _random(2, 50, 8)
    ours = functional.gaussian_nll(x, mean, -1.0)
    return float((ours + Normal(mean, math.exp(-1.0)).log_prob(x)).abs().max())


def _optimal() -> float:
    x, x_hat = _random(2, 50, 8)
    log_sigma = functional.optimal_sigma(x, x_hat).log().requires_grad_()
    (gradient,) = torch.autograd.grad(functional.gaussian_nll(x, x_hat, log_sigma).mean(), log_sigma)
    return abs(float(gradient))


def _analytic() -> float:
    data = load_data("digits")
    ppca = training_spectrum(data, LATENT_DIM).ppca(LATENT_DIM)
    model = linear_vae_at_ppca(ppca, data.spec.data_shape)
    x = torch.cat([batch.x for batch in data.batches("test", 64)]).double()
    return float((exact_linear_elbo(model, x) - functional.ppca_log_likelihood(ppca, x.flatten(1))).abs().max())


class _Trained:
    """A linear VAE trained once on the digits, for the checks that need one."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.data = load_data("digits")
        shape = self.data.spec.data_shape
        model = seeded_build(0, lambda: build("sigma-vae", data_shape=shape, latent_dim=LATENT_DIM, network="linear"))
        self.run = fit(
            model,
            self.data,
            Path(self.folder.name) / "run",
            epochs=80,
            lr=1e-2,
            weight_decay=0.0,
            quiet=True,
            pictures=False,
        )


_TRAINED: list[_Trained] = []


def _trained() -> _Trained:
    if not _TRAINED:
        _TRAINED.append(_Trained())
    return _TRAINED[0]


def _ppca_elbo() -> float:
    trained = _trained()
    x = torch.cat([batch.x for batch in trained.data.batches("train", 512)])
    ppca = training_spectrum(trained.data, LATENT_DIM).ppca(LATENT_DIM)
    floor = functional.ppca_log_likelihood(ppca, x.flatten(1).double()).mean()
    return float((floor - exact_linear_elbo(trained.run.model, x).double().mean()).abs())


def _ppca_sigma() -> float:
    trained = _trained()
    scale = trained.run.model.likelihood.scale
    assert scale is not None
    sigma = scale.summary()
    return abs(sigma / training_spectrum(trained.data, LATENT_DIM).ppca(LATENT_DIM).sigma - 1.0)


def _reductions() -> float:
    trained = _trained()
    values = [
        evaluate_model(trained.run.model, trained.data, batch_size=b).elbo_nats or math.nan for b in (1, 7, 128, 180)
    ]
    return (max(values) - min(values)) / abs(values[0])


def _round_trip() -> float:
    trained = _trained()
    again = load_model(trained.run.path)
    x = next(iter(trained.data.batches("test", 16))).x
    eps = torch.zeros(len(x), LATENT_DIM)
    with torch.no_grad():
        return float((again.elbo(x, eps=eps).elbo - trained.run.model.elbo(x, eps=eps).elbo).abs().max())


def _rescaling() -> float:
    x, mean = _random(2, 50, 8)
    c = 255.0
    shift = functional.gaussian_nll(c * x, c * mean, math.log(c)) - functional.gaussian_nll(x, mean, 0.0)
    return float((shift - math.log(c)).abs().max())


def _bits() -> float:
    spec = DataSpec((3, 32, 32))
    return abs(functional.bits_per_dim(spec.data_dim * math.log(256.0), spec.data_dim, 256) - 16.0)


def _ring() -> tuple[Tensor, Tensor, VAE]:
    """Points of a curved source, their exact log density, and the VAE that it is, with an encoder that does not look."""
    ring = Ring(1.0, 0.3)
    x = ring.sample(8, torch.Generator().manual_seed(0))
    encoder = torch.nn.Linear(2, 2)
    torch.nn.init.zeros_(encoder.weight)
    torch.nn.init.zeros_(encoder.bias)
    return x, ring.log_prob(x), ring.vae(encoder).double()


def _quadrature() -> float:
    x, exact, model = _ring()
    return float((quadrature_log_likelihood(model, x) - exact).abs().max())


def _weighted() -> float:
    x, exact, model = _ring()
    return float((importance_weighted(model, [Batch(x)], 20_000).log_likelihood - exact).abs().max())


def _annealed() -> float:
    x, exact, model = _ring()
    settings = AnnealedSettings(chains=1024, temperatures=400, leapfrog=4)
    return float((annealed_importance(model, [Batch(x)], settings).log_likelihood - exact).abs().max())


CHECKS: tuple[tuple[str, float, str, Callable[[], float]], ...] = (
    ("KL against torch.distributions", 1e-10, "nats", _kl),
    ("KL at (0, 1/e): the sign of log s", 1e-12, "nats", _erratum),
    ("Gaussian NLL against torch.distributions", 1e-10, "nats", _nll),
    ("optimal sigma is where the NLL's gradient vanishes", 1e-10, "nats", _optimal),
    ("rescaling data by c moves the NLL by log c an element", 1e-9, "nats", _rescaling),
    ("bits per dimension of a uniform guess", 1e-9, "bits", _bits),
    ("linear VAE at the analytic optimum: ELBO = log p(x)", 1e-9, "nats", _analytic),
    ("linear VAE trained on digits: ELBO against PPCA", 0.5, "nats", _ppca_elbo),
    ("linear VAE trained on digits: sigma against PPCA", 0.005, "relative", _ppca_sigma),
    ("quadrature of a ring against a Bessel function", 1e-6, "nats", _quadrature),
    ("importance-weighted bound, 20,000 samples, against it", 0.05, "nats", _weighted),
    ("annealed importance sampling, 1,024 chains, against it", 0.05, "nats", _annealed),
    ("ELBO for batch sizes 1, 7, 128 and N", 1e-5, "relative", _reductions),
    ("ELBO after saving and loading", 0.0, "nats", _round_trip),
)
