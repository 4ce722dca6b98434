"""Divergences to another prior than N(0, I): a Gaussian one exactly, any other by how its sample must enter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from .. import functional
from ._kl_probe import KLProbe
from ._probe import ProbeError
from ._tolerances import Tolerances

POSTERIORS = 16
NORMAL = (0.4, 1.8)  # root mean square of draws that pass for standard normal
DRAWS, MOST_DRAWS = 64, 1e3
MODEST = (0.1, 1.0, 4.0)  # nats
Kind: TypeAlias = Literal["gaussian", "sample", "penalty"]


@dataclass(frozen=True)
class Prior:
    """Prior to which a divergence is taken.

    Attributes:
        weight: coefficient of `-ln s` of each latent: the weight of a nat.
        closed: share of the variance's part that is in closed form: 1 of an exact KL, 0 of a sampled one.
        mean: mean of a Gaussian prior; `None` if it is not Gaussian, or the mean differs from latent to latent.
        std: standard deviation of a Gaussian prior, geometric mean over latents.
        kind: `gaussian`; `sample`: any term that acts through the sampled code; `penalty`: N(0, I), with a further term on
            the mean.
    """

    weight: float
    closed: float
    mean: float | None = None
    std: float | None = None
    kind: Kind = "sample"

    @property
    def is_gaussian(self) -> bool:
        """Tell whether it is Gaussian, with a variance and perhaps a mean of its own for each latent."""
        return self.kind == "gaussian"


@dataclass(frozen=True)
class _Slopes:
    """Gradients of each latent (columns) at several posteriors (rows)."""

    mu: Tensor
    std: Tensor
    along_mu: Tensor
    along_log_std: Tensor


def find_prior(kl: KLProbe) -> Prior | None:
    r"""Find the prior to which a divergence is taken, or `None` if it is no divergence.

    A KL to $N(m_i, t_i^2)$ has the gradients $b (\mu_i - m_i) / t_i^2$ along the mean and $b (s_i^2 / t_i^2 - 1)$ along
    $\ln s_i$. Whatever else acts through the sample $z = \mu + s \epsilon$ alone, a mixture prior or a fixed discriminator,
    adds $g_i(z)$ and $g_i(z) s_i \epsilon_i$ to them, so that the second is linear in the first with coefficients that do not
    depend on the posterior.
    """
    try:
        slopes = _slopes(kl)
    except ProbeError:
        return None
    return (
        _gaussian(kl, slopes)
        or _sampled_gaussian(kl, slopes)
        or _correlated(kl, slopes)
        or _through_the_sample(kl, slopes)
        or _with_a_term_on_the_mean(kl, slopes)
    )


def _slopes(kl: KLProbe) -> _Slopes:
    generator = torch.Generator().manual_seed(17)
    shape = (POSTERIORS, kl.sizes.batch_size, kl.sizes.latent_dim)
    mu = 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    log_std = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.6
    gradients = [kl.probe.gradients(kl.x, kl.x_hat, m, s)[1:] for m, s in zip(mu, log_std, strict=True)]
    along = [torch.stack([pair[i] for pair in gradients]).double().flatten(1) for i in (0, 1)]
    return _Slopes(mu.flatten(1), log_std.exp().flatten(1), *along)


def _linear(target: Tensor, *features: Tensor) -> tuple[Tensor, float]:
    """Coefficients `[latents, features]` of each column, and the largest misfit relative to the largest target."""
    basis = torch.stack(features, -1).transpose(0, 1)
    column = target.T[..., None]
    solution = torch.linalg.lstsq(basis, column, driver="gelsd").solution
    misfit = (basis @ solution - column).abs().max() / target.abs().max().clamp_min(1e-300)
    return solution[..., 0], float(misfit)


def _common(values: Tensor) -> float | None:
    """Number that all values are equal to, or `None`."""
    middle = float(values.median())
    spread = float((values - middle).abs().max())
    return middle if spread <= Tolerances.equal_latents.value * max(1.0, abs(middle)) else None


def _gaussian(kl: KLProbe, slopes: _Slopes) -> Prior | None:
    """Recognise an exact KL to a Gaussian of any mean and variance."""
    one, seen = torch.ones_like(slopes.mu), Tolerances.prior_misfit.at(kl.probe.dtype)
    variance, misfit = _linear(slopes.along_log_std, one, slopes.std.square())
    mean, misfit_of_mean = _linear(slopes.along_mu, one, slopes.mu)
    weight = -variance[:, 0]
    if max(misfit, misfit_of_mean) > seen or not bool((weight > 0).all() and (variance[:, 1] > 0).all()):
        return None
    if bool((variance[:, 1] / mean[:, 1] - 1.0).abs().max() > Tolerances.equal_latents.value):
        return None
    even = _common(weight / weight.mean())
    if even is None:
        return None
    std = (weight / variance[:, 1]).sqrt()
    at = _common(-mean[:, 0] / mean[:, 1])
    return Prior(float(weight.mean()), 1.0, at, _common(std) or float(std.log().mean().exp()), kind="gaussian")


def _sampled_gaussian(kl: KLProbe, slopes: _Slopes) -> Prior | None:
    r"""Recognise a sampled KL to a Gaussian: both gradients hold $z - m$, so that the mean's is linear in the posterior.

    $b (\mu - m + s \bar\epsilon) / t^2$ along the mean, and $-b + b (s \bar\epsilon (\mu - m) + s^2 \overline{\epsilon^2}) / t^2$
    along $\ln s$, with averages over any number of samples.
    """
    one, std = torch.ones_like(slopes.mu), slopes.std
    mean, misfit_of_mean = _linear(slopes.along_mu, one, slopes.mu, std)
    spread, misfit = _linear(slopes.along_log_std, one, std.square(), std * slopes.mu, std)
    weight, rate, noise = -spread[:, 0], mean[:, 1], mean[:, 2] / mean[:, 1]
    if max(misfit, misfit_of_mean) > Tolerances.prior_misfit.at(kl.probe.dtype) or not bool(
        (weight > 0).all() and (rate > 0).all()
    ):
        return None
    tied = (spread[:, 2] - rate * noise).abs().max() <= Tolerances.equal_parts.value * rate.max()
    square = float((spread[:, 1] / rate).mean())  # of the draws
    even = _common(weight / weight.mean())
    draws = 1.0 / max(float(noise.square().mean()), 1e-300)  # that were averaged
    if not bool(tied) or even is None or draws > MOST_DRAWS or not _is_normal(square, noise, max(draws, 1.0)):
        return None
    at = _common(-mean[:, 0] / rate)
    std_of_prior = (weight / rate).sqrt()
    return Prior(
        float(weight.mean()), 0.0, at, _common(std_of_prior) or float(std_of_prior.log().mean().exp()), kind="gaussian"
    )


def _is_normal(square: float, means: Tensor, draws: float) -> bool:
    """Tell whether averages over so many draws, and their mean square, pass for standard normal."""
    count = len(means) * draws
    sure = Tolerances.standard_errors.value
    return bool(abs(square - 1.0) <= sure * (2.0 / count) ** 0.5 and abs(float(means.mean())) <= sure / count**0.5)


def _correlated(kl: KLProbe, slopes: _Slopes) -> Prior | None:
    """Recognise an exact KL to a Gaussian whose latents are correlated: the mean's gradient is linear in all means of the example."""
    batch, latents = kl.sizes.batch_size, kl.sizes.latent_dim
    if batch * POSTERIORS < 2 * (latents + 1) or latents < 2:
        return None
    one, seen = torch.ones_like(slopes.mu), Tolerances.prior_misfit.at(kl.probe.dtype)
    variance, misfit = _linear(slopes.along_log_std, one, slopes.std.square())
    mu, along = (v.reshape(-1, latents) for v in (slopes.mu, slopes.along_mu))
    basis = torch.cat([torch.ones(len(mu), 1, dtype=mu.dtype), mu], 1)
    solution = torch.linalg.lstsq(basis, along, driver="gelsd").solution
    misfit_of_mean = float((basis @ solution - along).abs().max() / along.abs().max().clamp_min(1e-300))
    if max(misfit, misfit_of_mean) > seen:
        return None
    precision, weight = solution[1:], -variance[:, 0]
    own = variance[:, 1].reshape(-1, latents).mean(0)
    agrees = (precision.diagonal() / own - 1.0).abs().max() <= Tolerances.equal_latents.value
    symmetric = (precision - precision.T).abs().max() <= Tolerances.equal_latents.value * precision.abs().max()
    if not bool(agrees & symmetric) or _common(weight / weight.mean()) is None or not float(weight.mean()) > 0:
        return None
    if float(torch.linalg.eigvalsh(0.5 * (precision + precision.T)).min()) <= 0:
        return None
    return Prior(
        float(weight.mean()), 1.0, None, float((weight.mean() / own).sqrt().log().mean().exp()), kind="gaussian"
    )


def _with_a_term_on_the_mean(kl: KLProbe, slopes: _Slopes) -> Prior | None:
    """Recognise an exact KL to N(0, I) beside a penalty or a classifier that acts on the mean."""
    one = torch.ones_like(slopes.mu)
    variance, misfit = _linear(slopes.along_log_std, one, slopes.std.square())
    weight, square = -variance[:, 0], variance[:, 1]
    if misfit > Tolerances.prior_misfit.at(kl.probe.dtype) or not bool((weight > 0).all()):
        return None
    size = float(weight.mean())
    even = (
        max(float((weight / size - 1.0).abs().max()), float((square / size - 1.0).abs().max()))
        <= Tolerances.equal_latents.value
    )
    rate = kl.curvature(1e4)[0] / size
    if (
        not even
        or rate < 1.0 - Tolerances.equal_parts.value
        or any(abs(rate / c - 1.0) < Tolerances.equal_parts.value for c in (0.5, 2.0))
    ):
        return None  # less than the KL's own, or a half that was forgotten
    return Prior(size, 1.0, 0.0, 1.0, kind="penalty")


def _through_the_sample(kl: KLProbe, slopes: _Slopes) -> Prior | None:
    """Recognise an entropy beside any function of the sampled code, perhaps with a part in closed form."""
    one, std = torch.ones_like(slopes.mu), slopes.std
    solution, misfit = _linear(
        slopes.along_log_std, one, std.square(), std * slopes.along_mu, std * slopes.mu, std
    )  # -b, c, eps, -c eps, c m eps
    weight, closed, noise = -solution[:, 0], solution[:, 1], solution[:, 2]
    if misfit > Tolerances.prior_misfit.at(kl.probe.dtype) or float(weight.median()) <= 0:
        return None
    size = weight.median()
    tied = (solution[:, 3] + closed * noise).abs().max() <= Tolerances.equal_parts.value * size
    even = (weight - size).abs().max() <= Tolerances.equal_parts.value * size
    normal = NORMAL[0] <= float(noise.square().mean().sqrt()) <= NORMAL[1]
    if not (bool(tied) and bool(even) and normal and _grows(kl)):
        return None
    share = float(closed.median() / size)
    return Prior(
        float(size),
        1.0
        if abs(share - 1.0) < Tolerances.equal_parts.value
        else 0.0
        if abs(share) < Tolerances.equal_parts.value
        else share,
    )


def _grows(kl: KLProbe) -> bool:
    """Tell whether means far out cost more than the origin, as under any prior that can be normalised."""
    return kl.at(kl.mean_at(1e4)) > kl.at(0.0)


def is_bound_of_several(kl: KLProbe, weight: float) -> bool:
    """Tell whether the term may be an importance-weighted bound.

    Such a bound is equal for all draws where posterior and prior agree, and elsewhere between that and the KL on the average.
    """
    if weight <= 0:
        return False
    rest = torch.tensor([kl.one(0.0, 0.0, seed) for seed in range(DRAWS)], dtype=torch.float64)
    scale = weight * kl.sizes.batch_size
    if float(rest.std()) > Tolerances.bound_at_prior.value * scale:
        return False
    for level in MODEST:
        for mean, log_std in ((kl.mean_at(level), 0.0), (0.0, -0.5), (0.0, 0.3)):
            point = kl.full(mean), kl.full(log_std)
            rises = torch.tensor([kl.one(*point, seed) for seed in range(DRAWS)], dtype=torch.float64) - rest.mean()
            error = Tolerances.bound_noise.value * float(rises.std()) / DRAWS**0.5
            most = weight * float(functional.kl_standard_normal(*point).sum())
            if not -error <= float(rises.mean()) <= most + error:
                return False
    return True
