"""Sums over a data set: what training selects by and evaluation reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .. import functional
from ..errors import ArgumentError
from ..likelihoods import AbstractSigma, GaussianLikelihood, OptimalSigma
from ..objectives import elbo_terms
from ._compile import CompiledIfItPays
from ._vae import VAE

Batches = Iterable[tuple[int, Tensor]]
NoiseRows = Callable[[int, int], Tensor]


@contextmanager
def evaluating(model: VAE) -> Iterator[None]:
    """Eval mode without gradients, and the mode that was afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class ELBOSummary:
    """A data set's terms, averaged over examples in float64.

    Attributes:
        n: number of examples.
        nll: mean of `-log p(x|z)`, nats.
        kl_per_dim: mean KL of each latent dimension, `[d]`, nats.
        elbos: of each example at beta = 1, `[N]`, nats, float64: two models differ by the mean of the differences.
        mse: mean squared error of the reconstruction at the sampled `z`, per element.
        posterior_mean_var: variance over examples of each posterior mean, `[d]`.
        is_bound: whether `elbo` is one (a plain autoencoder has none).
        standard_errors: of the means by name, from their spread over examples; empty for one example.
    """

    n: int
    nll: float
    kl_per_dim: Tensor
    elbos: Tensor
    mse: float
    posterior_mean_var: Tensor
    is_bound: bool
    standard_errors: dict[str, Any]

    @property
    def kl(self) -> float:
        """Mean KL, summed over the latents, nats."""
        return float(self.kl_per_dim.sum())

    @property
    def elbo(self) -> float:
        """Mean ELBO at beta = 1, nats."""
        return -(self.nll + self.kl)

    @property
    def standard_error(self) -> float:
        """Of `elbo`, from its spread over examples; NaN for one."""
        return functional.error_of_mean(self.elbos)


class _Sums:
    """Running float64 sums, shifted by the first batch's means so that no digits are lost in the variances."""

    def __init__(self) -> None:
        self.data_dim = 1
        self.parts: list[Tensor] = []
        self.nlls: list[Tensor] = []
        self.kls: list[Tensor] = []
        self.sses: list[Tensor] = []
        self.origins: tuple[Tensor, Tensor] | None = None

    def add(self, elements: int, nll: Tensor, kl: Tensor, sse: Tensor, mean: Tensor) -> None:
        nll, kl, sse, mean = (part.cpu().double() for part in (nll, kl, sse, mean))
        for kept, values in ((self.nlls, nll), (self.kls, kl.sum(1)), (self.sses, sse)):
            kept.append(values)
        self.data_dim = elements // len(nll)
        self.origins = self.origins or (kl.mean(0), mean.mean(0))
        batch = [part for x, origin in zip((kl, mean), self.origins, strict=True) for part in _powers(x - origin)]
        self.parts = [a + b for a, b in zip(self.parts, batch, strict=True)] if self.parts else batch

    def summary(self, is_bound: bool) -> ELBOSummary:
        assert self.origins is not None
        nlls, kls, mses = torch.cat(self.nlls), torch.cat(self.kls), torch.cat(self.sses) / self.data_dim
        n = len(nlls)
        kl, kl_sq, mean, mean_sq = (part / n for part in self.parts)
        spread = (mean_sq - mean.square()).clamp_min(0.0)
        errors: dict[str, Any] = {}
        if n > 1:
            named = {"nll_nats": nlls, "mse": mses} | ({"kl_nats": kls} if is_bound else {})
            errors = {name: functional.error_of_mean(values) for name, values in named.items()}
            if is_bound:
                errors["kl_per_dim"] = ((kl_sq - kl.square()).clamp_min(0.0) / (n - 1)).sqrt().tolist()
        kl_per_dim = self.origins[0] + kl
        return ELBOSummary(
            n, float(nlls.mean()), kl_per_dim, -(nlls + kls), float(mses.mean()), spread, is_bound, errors
        )


def _powers(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.sum(0), x.square().sum(0)


@final
class Scorer:
    """NLL `[B]`, KL `[B, d]`, squared error `[B]` and posterior mean `[B, d]` of batches, compiled if enough of them are to come.

    Args:
        model: with a fixed sigma.
        examples: how many will be scored, if it is known.
        batch_size: examples at once.
    """

    def __init__(self, model: VAE, examples: int | None = None, batch_size: int = 1) -> None:
        def score(x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
            output = model(x, noise)
            terms = elbo_terms(output, x)
            x_hat = output.likelihood.mean.to(x.dtype)
            return terms.nll, terms.kl, functional.sse(x, x_hat), output.posterior.mean

        self.model = model
        self._score = CompiledIfItPays(score, model.device, (examples or 0) // batch_size)

    def __call__(self, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """The terms of a batch `[B, *data]` at the sample that noise `[B, d]` gives."""
        x = x.to(self.model.device)
        return self._score(x, noise.to(x))


def summarise(
    model: VAE,
    batches: Batches,
    noise: NoiseRows,
    step: Callable[[int], None] | None = None,
    scorer: Scorer | None = None,
) -> ELBOSummary:
    """The ELBO's terms over a data set, one sample of `z` per example, weighted by example.

    Args:
        model: with a fixed sigma.
        batches: pairs of the first example's position and the batch.
        noise: standard normal noise of the examples from one position to another.
        step: called with the size of each batch, for a progress bar.
        scorer: of the model, which may be compiled; one can serve several data sets.

    Raises:
        UnfrozenSigmaError: if an optimal sigma was not fixed.
    """
    sums, scorer = _Sums(), scorer or Scorer(model)
    with evaluating(model):
        for start, x in batches:
            sums.add(x.numel(), *scorer(x, noise(start, start + len(x))))
            if step is not None:
                step(len(x))
    return sums.summary(model.posterior.is_density)


def optimal_sigma_over(model: VAE, sigma: AbstractSigma, batches: Batches, noise: NoiseRows) -> Tensor:
    """Root mean square residual over a data set, posterior samples included, shared as `sigma` is."""
    total, count = torch.zeros(sigma.sigma_shape, dtype=torch.float64), 0
    with evaluating(model):
        for start, x in batches:
            x = x.to(model.device)
            output = model(x, noise(start, start + len(x)).to(x))
            batch_sigma = functional.optimal_sigma(x, output.likelihood.mean.to(x.dtype), sigma.shared)
            total += len(x) * batch_sigma.cpu().double().square()
            count += len(x)
    if count == 0:
        raise ArgumentError("sigma is calibrated on examples; got none. Pass the training set.")
    return (total / count).sqrt()


def fix_sigma(model: VAE, batches: Batches, noise: NoiseRows) -> None:
    """Fix an optimal sigma to its value over the given (training) examples; any other sigma is left alone."""
    sigma = optimal_sigma_of(model)
    if sigma is not None:
        sigma.freeze(optimal_sigma_over(model, sigma, batches, noise).to(model.device, torch.float32))


def calibrate_sigma(model: VAE, data: Tensor | Iterable[Any], *, seed: int = 0, batch_size: int = 512) -> Tensor | None:
    r"""Fix an optimal sigma on the training set, as `fit` does at its end; for training loops of your own.

    $$\sigma^{*2} = \frac{1}{N D} \sum_n \lVert x_n - \hat x(z_n) \rVert^2, \qquad z_n \sim q(z|x_n)$$

    One posterior sample per example; raised to the floor. A manual or learned sigma is left alone.

    Args:
        model: any `VAE`.
        data: the training set as the model sees it (dequantised): a tensor or array `[N, *data]`, a map-style Dataset, or
            batches: tensors, or tuples that begin with one, as from a `DataLoader`.
        seed: of the posterior samples.
        batch_size: examples at once, where `data` is a tensor.

    Returns:
        Sigma in units of the data, `[]`, `[C]` or `[*data]`; `None` if the likelihood has none.

    Raises:
        ArgumentError: if there are no examples.

    Example:
        >>> x = torch.rand(64, 1, 8, 8)
        >>> model = build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
        >>> optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        >>> for step in range(3):
        ...     optimiser.zero_grad()
        ...     (-model.elbo(x).elbo.mean()).backward()
        ...     optimiser.step()
        >>> sigma = calibrate_sigma(model, x)
        >>> model.eval().elbo(x).elbo.shape
        torch.Size([64])
    """
    generator = torch.Generator().manual_seed(seed)
    sigma = optimal_sigma_of(model)
    if sigma is not None:
        batches = _numbered(_batches(data, batch_size))

        def noise(start: int, stop: int) -> Tensor:
            return torch.randn(stop - start, model.latent_dim, generator=generator)

        fix_sigma(model, batches, noise)
    fixed: AbstractSigma | None = getattr(model.likelihood, "sigma", None)
    return None if fixed is None else fixed.log_sigma.detach().exp()


def _batches(data: Any, batch_size: int) -> Iterable[Any]:
    """Batches of a tensor, an array, a map-style Dataset, or what is batches already."""
    if hasattr(data, "__array__") and not isinstance(data, Tensor):
        data = torch.as_tensor(data)
    if isinstance(data, Tensor):
        return data.to(torch.float32).split(batch_size) if len(data) else []
    return DataLoader(data, batch_size) if isinstance(data, Dataset) else data


def _numbered(batches: Iterable[Any]) -> Batches:
    """Each batch with the position of its first example."""
    start = 0
    for batch in batches:
        x = batch[0] if isinstance(batch, tuple | list) else batch
        yield start, x
        start += len(x)


def optimal_sigma_of(model: VAE) -> OptimalSigma | None:
    """The model's sigma if it is the analytic optimum, which must be fixed before evaluation."""
    likelihood = model.likelihood
    if isinstance(likelihood, GaussianLikelihood) and isinstance(likelihood.sigma, OptimalSigma):
        return likelihood.sigma
    return None
