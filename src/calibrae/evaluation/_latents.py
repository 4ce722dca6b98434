"""What the latents hold: KL per dimension, active units, mutual information, the aggregate posterior, holes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .. import functional
from ..data import mixed_seed
from ..errors import ArgumentError
from ..functional import error_of_mean
from ..latents import require_density
from ..models import VAE, evaluating

LATENT_DIAGNOSIS_STREAM = 8
MOST_COMPONENTS = 10_000
MOST_QUERIES = 1_000
QUERIES_AT_ONCE = 50
RARE = 0.01  # quantile of the posterior samples below which a prior sample is in a hole
RESAMPLED = 200
MANY_HOLES = 0.1  # share of prior samples in holes from which samples look worse than reconstructions


@dataclass(frozen=True)
class LatentDiagnosis:
    r"""What a data set's codes look like, in nats; `q(z)` is the mixture of the posteriors of `components` examples.

    Attributes:
        kl_per_dim: mean KL of each latent, `[d]`, exact for Gaussians.
        posterior_mean_variance: variance over examples of each posterior mean, `[d]`.
        active: which latents are active, `[d]`: that variance exceeds 0.01 (Burda et al. 2016).
        mutual_information: $I(x; z) = E[\log q(z|x) - \log q(z)]$, never above `log components`, its `cap`.
        total_correlation: $\mathrm{KL}(q(z) \| \prod_j q(z_j))$, how far the latents are from independent.
        dimensionwise_kl: $\sum_j \mathrm{KL}(q(z_j) \| p(z_j))$, how far each is from the prior.
        hole_share: share of prior samples in a hole, where `q(z) / p(z)` is below the 1 % quantile of that of
            posterior samples, each held out of `q(z)`; 0.01 if there are none.
        components: examples in `q(z)`.
        queries: samples that its density was taken at.
        standard_errors: of the numbers above by name, over examples or samples, for the given `components`.
        collapse: `none`, `partial` or `full`.
        sentence: what it means.
    """

    kl_per_dim: Tensor
    posterior_mean_variance: Tensor
    active: Tensor
    mutual_information: float
    total_correlation: float
    dimensionwise_kl: float
    hole_share: float
    components: int
    queries: int
    standard_errors: dict[str, Any]
    collapse: str
    sentence: str

    @property
    def active_units(self) -> int:
        """How many latents are active."""
        return int(self.active.sum())

    @property
    def mutual_information_error(self) -> float:
        """Standard error of the mutual information."""
        return float(self.standard_errors["mutual_information"])

    @property
    def aggregate_kl(self) -> float:
        r"""$\mathrm{KL}(q(z) \| p(z))$, nats: total correlation plus dimension-wise KL; the mean KL is this plus the mutual information."""
        return self.total_correlation + self.dimensionwise_kl

    @property
    def cap(self) -> float:
        """`log components`: what the estimate of the mutual information cannot exceed."""
        return math.log(self.components)

    @property
    def has_holes(self) -> bool:
        """Whether more than a tenth of the prior's samples fall where no data are coded."""
        return self.hole_share > MANY_HOLES

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        plain = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in asdict(self).items()}
        return plain | {
            "active_units": self.active_units,
            "active_above": functional.ACTIVE_ABOVE,
            "aggregate_kl": self.aggregate_kl,
            "cap": self.cap,
        }


def diagnose_latents(
    model: VAE,
    batches: Iterable[tuple[int, Tensor]],
    seed: int = 0,
    step: Callable[[int], None] | None = None,
) -> LatentDiagnosis:
    r"""Decomposes the mean KL of a data set and looks for unused latents and holes.

    $$E_x[\mathrm{KL}(q(z|x) \| p(z))] = I(x; z) + \mathrm{KL}\Big(q(z) \Big\| \prod_j q(z_j)\Big) + \sum_j \mathrm{KL}(q(z_j) \| p(z_j))$$

    The first 10,000 examples make `q(z)`; its density is taken at one posterior sample of each of up to 1,000 of them.

    Args:
        model: a density.
        batches: pairs of the first example's position and the batch.
        seed: of the samples.
        step: called with the number of examples done, for a progress bar.

    Raises:
        NoDensityError: for a plain autoencoder.
        ArgumentError: if there are fewer than two examples.

    References:
        Hoffman & Johnson 2016, *ELBO surgery*; Chen et al. 2018, https://arxiv.org/abs/1802.04942
    """
    mean, std, kl = _encoded(model, batches, step)
    if len(mean) < 2:
        raise ArgumentError(f"a diagnosis of latents needs at least two examples; got {len(mean)}.")
    variance = mean.var(0, correction=0)
    mixture = _Mixture(mean[:MOST_COMPONENTS], std[:MOST_COMPONENTS])
    generator = torch.Generator().manual_seed(mixed_seed(seed, LATENT_DIAGNOSIS_STREAM))
    chosen = torch.randperm(len(mixture.mean), generator=generator)[:MOST_QUERIES]
    noise = torch.randn(len(chosen), mean.shape[1], generator=generator, dtype=torch.float64)
    z = mixture.mean[chosen] + mixture.std[chosen] * noise
    log_q_given_x = _log_normal(z, mixture.mean[chosen], mixture.std[chosen]).sum(1)
    log_q, log_marginals = mixture.log_density(z)
    log_prior = model.prior.log_prob(z.to(torch.float32)).double().cpu().sum(1)
    information = log_q_given_x - log_q
    prior = model.prior.sample(len(chosen), generator).cpu().double()
    holes, holes_error = _hole_share(model, mixture, z, chosen, log_prior, prior, generator)
    active = functional.active_latents(variance)
    collapse, sentence = _verdict(kl.mean(0), active, float(information.mean()), math.log(len(mixture.mean)), holes)
    return LatentDiagnosis(
        kl_per_dim=kl.mean(0),
        posterior_mean_variance=variance,
        active=active,
        mutual_information=float(information.mean()),
        total_correlation=float((log_q - log_marginals).mean()),
        dimensionwise_kl=float((log_marginals - log_prior).mean()),
        hole_share=holes,
        components=len(mixture.mean),
        queries=len(z),
        standard_errors={
            "kl_per_dim": [error_of_mean(latent) for latent in kl.T],
            "posterior_mean_variance": [error_of_mean(latent) for latent in (mean - mean.mean(0)).square().T],
            "mutual_information": error_of_mean(information),
            "total_correlation": error_of_mean(log_q - log_marginals),
            "dimensionwise_kl": error_of_mean(log_marginals - log_prior),
            "aggregate_kl": error_of_mean(log_q - log_prior),
            "hole_share": holes_error,
        },
        collapse=collapse,
        sentence=sentence,
    )


def _encoded(
    model: VAE, batches: Iterable[tuple[int, Tensor]], step: Callable[[int], None] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior means, standard deviations and KLs of all examples, `[N, d]`, float64."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with evaluating(model):
        for _, x in batches:
            posterior = model.encode(x.to(model.device))
            require_density(posterior)
            normal = posterior.distribution()
            kl = model.prior.kl(posterior, posterior.mean)
            found.append((normal.mean.cpu().double(), normal.stddev.cpu().double(), kl.cpu().double()))
            if step is not None:
                step(len(x))
    if not found:
        raise ArgumentError("a diagnosis of latents needs at least two examples; got none.")
    mean, std, kl = (torch.cat(parts) for parts in zip(*found, strict=True))
    return mean, std, kl


def _log_normal(z: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return -0.5 * ((z - mean) / std).square() - std.log() - 0.5 * math.log(2.0 * math.pi)


class _Mixture:
    """The aggregate posterior of some examples, `q(z) = 1/M sum_m q(z|x_m)`."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean = mean
        self.std = std

    def log_density(self, z: Tensor, without: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`log q(z)` and `sum_j log q(z_j)` at each of `z` `[n, d]`, perhaps without one component each."""
        joint, marginal = [], []
        for i, part in enumerate(z.split(QUERIES_AT_ONCE)):
            terms = _log_normal(part[:, None], self.mean, self.std)  # [n, M, d]
            count = len(self.mean)
            if without is not None:
                rows = torch.arange(len(part))
                terms[rows, without[i * QUERIES_AT_ONCE :][: len(part)]] = -math.inf
                count -= 1
            joint.append(terms.sum(2).logsumexp(1) - math.log(count))
            marginal.append((terms.logsumexp(1) - math.log(count)).sum(1))
        return torch.cat(joint), torch.cat(marginal)


def _hole_share(
    model: VAE,
    mixture: _Mixture,
    z: Tensor,
    owners: Tensor,
    log_prior: Tensor,
    prior: Tensor,
    generator: torch.Generator,
) -> tuple[float, float]:
    """Share of prior samples where `q(z) / p(z)` is lower than at all but one in a hundred held-out posterior samples, and its error.

    The error is a bootstrap of both, since the threshold is as uncertain as the share.
    """
    usual = mixture.log_density(z, without=owners)[0] - log_prior
    drawn = mixture.log_density(prior)[0] - model.prior.log_prob(prior.float()).double().cpu().sum(1)
    shares = []
    for _ in range(RESAMPLED):
        thresholds, samples = (
            values[torch.randint(len(values), (len(values),), generator=generator)] for values in (usual, drawn)
        )
        shares.append(_share_below(samples, thresholds))
    return _share_below(drawn, usual), float(torch.tensor(shares, dtype=torch.float64).std())


def _share_below(drawn: Tensor, usual: Tensor) -> float:
    return float((drawn < torch.quantile(usual, RARE)).double().mean())


def _verdict(kl: Tensor, active: Tensor, information: float, cap: float, holes: float) -> tuple[str, str]:
    """Collapse, and the sentence."""
    used, latents = int(active.sum()), len(active)
    unused = latents - used
    spent = f"{float(kl.sum()):.1f} nats in {used} of {latents} latents"
    if used == 0:
        return "full", (
            f"Posterior collapse: no latent is active ({float(kl.sum()):.2f} nats of KL), so the decoder ignores z and every "
            "sample is drawn from the same average."
        )
    capped = " (at its estimator's cap, so it may be more)" if information > 0.95 * cap else ""
    first = f"The code holds {spent}; mutual information {information:.1f} nats{capped}."
    if holes > MANY_HOLES:
        first += f" {100 * holes:.0f} % of prior samples fall into holes, where no data are coded: expect samples worse than reconstructions."
    if unused:
        return "partial", f"{first} {unused} latents are unused: fewer would do."
    return "none", first
