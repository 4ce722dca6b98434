"""Diagnosis of the latents: KL, active units, mutual information, the aggregate posterior, holes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution

from .. import functional
from .._noise import ExampleNoise, mixed_seed
from .._types import Batch
from ..acceleration import in_double
from ..errors import ArgumentError, NoDensityError
from ..functional import error_of_mean
from ..latents import exact_kl, factors_of, kl, kl_per_dimension, reparameterise
from ..models import VAE, evaluating, mean_of, sample_latents, seeded
from ..objectives import NO_PRIOR

LATENT_DIAGNOSIS_STREAM = 8
NO_ONE_PRIOR = "the prior depends on the condition: there is no one prior to compare the aggregate posterior with"
MOST_COMPONENTS = 10_000
MOST_QUERIES = 1_000
QUERIES_AT_ONCE = 50
RARE = 0.01  # quantile of the posterior samples below which a prior sample is in a hole
RESAMPLED = 200
KL_SAMPLES = 64  # of each example, where the KL has no closed form
SURE = 3.0  # standard errors
Holes: TypeAlias = tuple[float | None, float | None]  # a share, and its error
MANY_HOLES = 0.1  # share of prior samples in holes from which samples look worse than reconstructions


@dataclass(frozen=True)
class LatentDiagnosis:
    r"""Decomposition of the mean KL of a data set, in nats; `q(z)` is the mixture of the posteriors of `components` examples.

    Attributes:
        kl: mean KL, summed over the latents; exact where a closed form is known, else estimated from samples.
        kl_per_dim: mean KL of each latent, `[d]`; `None` unless posterior and prior factorise.
        posterior_mean_variance: variance over examples of each posterior mean, `[d]`.
        active: true for each active latent, `[d]`: that variance exceeds 0.01 (Burda et al. 2016).
        mutual_information: $I(x; z) = E[\log q(z|x) - \log q(z)]$, never above `log components`, its `cap`.
        total_correlation: $\mathrm{KL}(q(z) \| \prod_j q(z_j))$, how far the latents are from independent; `None` unless the posterior
            factorises.
        dimensionwise_kl: $\sum_j \mathrm{KL}(q(z_j) \| p(z_j))$, how far each is from the prior; `None` unless both factorise.
        aggregate_kl: $\mathrm{KL}(q(z) \| p(z))$: the mean KL is this plus the mutual information; `None` for a conditional prior.
        hole_share: share of prior samples in a hole, where `q(z) / p(z)` is below the 1 % quantile of that of
            posterior samples, each held out of `q(z)`; 0.01 if there are none; `None` for a conditional prior.
        components: examples in `q(z)`.
        queries: samples that its density was taken at.
        standard_errors: standard errors of the numbers above by name, over examples or samples, for the given `components`.
        collapse: `none`, `partial` or `full`.
        sentence: verdict in plain words.
        notes: numbers that cannot be given for this model, and why.
    """

    kl: float
    kl_per_dim: Tensor | None
    posterior_mean_variance: Tensor
    active: Tensor
    mutual_information: float
    total_correlation: float | None
    dimensionwise_kl: float | None
    aggregate_kl: float | None
    hole_share: float | None
    components: int
    queries: int
    standard_errors: dict[str, Any]
    collapse: str
    sentence: str
    notes: tuple[str, ...] = ()

    @property
    def active_units(self) -> int:
        """Number of active latents."""
        return int(self.active.sum())

    @property
    def mutual_information_error(self) -> float:
        """Standard error of the mutual information."""
        return float(self.standard_errors["mutual_information"])

    @property
    def cap(self) -> float:
        """`log components`: what the estimate of the mutual information cannot exceed."""
        return math.log(self.components)

    @property
    def has_holes(self) -> bool:
        """Tell whether more than a tenth of the prior's samples fall where no data are coded, beyond the error of that share."""
        return _has_holes((self.hole_share, self.standard_errors.get("hole_share")))

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        plain = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in asdict(self).items()}
        return plain | {
            "active_units": self.active_units,
            "active_above": functional.ACTIVE_ABOVE,
            "cap": self.cap,
        }


def diagnose_latents(
    model: VAE,
    batches: Iterable[Batch],
    seed: int = 0,
    step: Callable[[int], None] | None = None,
) -> LatentDiagnosis:
    r"""Decompose the mean KL of a data set; look for unused latents and holes.

    $$E_x[\mathrm{KL}(q(z|x) \| p(z))] = I(x; z) + \mathrm{KL}\Big(q(z) \Big\| \prod_j q(z_j)\Big) + \sum_j \mathrm{KL}(q(z_j) \| p(z_j))$$

    The first 10,000 examples make `q(z)`; its density is taken at one posterior sample of each of up to 1,000 of them. Numbers that a
    posterior or prior does not allow are left out, with a note.

    Args:
        model: with a prior; any posterior that can tell its mean.
        batches: examples.
        seed: seed of the samples.
        step: called with the number of examples done, for a progress bar.

    Raises:
        NoDensityError: for a plain autoencoder.
        ArgumentError: if there are fewer than two examples.

    References:
        Hoffman & Johnson 2016, *ELBO surgery*; Chen et al. 2018, https://arxiv.org/abs/1802.04942
    """
    if not model.is_probabilistic:
        raise NoDensityError(NO_PRIOR)
    generator = torch.Generator().manual_seed(mixed_seed(seed, LATENT_DIAGNOSIS_STREAM))
    codes = _Codes.of(model, batches, seed, step)
    if len(codes.mean) < 2:
        raise ArgumentError(f"a diagnosis of latents needs at least two examples; got {len(codes.mean)}.")
    with evaluating(model):
        return _diagnosed(model, codes, generator)


def _diagnosed(model: VAE, codes: _Codes, generator: torch.Generator) -> LatentDiagnosis:
    mean, variance = codes.mean, codes.mean.var(0, correction=0)
    chosen = torch.randperm(min(len(mean), MOST_COMPONENTS), generator=generator)[:MOST_QUERIES]
    mixture = _Mixture(codes.posterior(slice(None, MOST_COMPONENTS)))
    z, log_q_given_x = codes.samples(chosen, generator)
    log_q, log_marginals = mixture.log_density(z)
    information = log_q_given_x - log_q
    found: dict[str, Tensor] = {"mutual_information": information}
    notes = list(codes.notes)
    if log_marginals is not None:
        found["total_correlation"] = log_q - log_marginals
    holes: Holes = (None, None)
    p = codes.prior
    if p is None:
        notes.append(NO_ONE_PRIOR)
    else:
        log_prior = p.log_prob(z.to(model.device, torch.float32)).cpu().double()
        found["aggregate_kl"] = log_q - log_prior
        if log_marginals is not None and factors_of(p) is not None:
            found["dimensionwise_kl"] = log_marginals - log_prior
        prior = sample_latents(p, len(chosen), model.device, generator)
        drawn = mixture.log_density(prior.to(z))[0] - p.log_prob(prior).cpu().double()
        usual = mixture.log_density(z, without=chosen)[0] - log_prior
        holes = _hole_share(usual, drawn, generator)
    active = functional.active_latents(variance)
    means = {name: float(values.mean()) for name, values in found.items()}
    errors = _errors(found, codes) | ({} if holes[1] is None else {"hole_share": holes[1]})
    total = float(codes.kl.mean())
    collapse, sentence = _verdict(total, active, means["mutual_information"], math.log(mixture.count), holes)
    return LatentDiagnosis(
        kl=total,
        kl_per_dim=None if codes.kl_per_dim is None else codes.kl_per_dim.mean(0),
        posterior_mean_variance=variance,
        active=active,
        mutual_information=means["mutual_information"],
        total_correlation=means.get("total_correlation"),
        dimensionwise_kl=means.get("dimensionwise_kl"),
        aggregate_kl=means.get("aggregate_kl"),
        hole_share=holes[0],
        components=mixture.count,
        queries=len(z),
        standard_errors=errors,
        collapse=collapse,
        sentence=sentence,
        notes=tuple(notes),
    )


def _errors(found: dict[str, Tensor], codes: _Codes) -> dict[str, Any]:
    """Standard errors of means over samples, and over examples."""
    errors: dict[str, Any] = {name: error_of_mean(values) for name, values in found.items()}
    errors["kl"] = error_of_mean(codes.kl)
    deviations = (codes.mean - codes.mean.mean(0)).square()
    errors["posterior_mean_variance"] = [error_of_mean(latent) for latent in deviations.T]
    if codes.kl_per_dim is not None:
        errors["kl_per_dim"] = [error_of_mean(latent) for latent in codes.kl_per_dim.T]
    return errors


class _Codes:
    """Encoder features, posterior means and KLs of all examples."""

    def __init__(self, model: VAE, seed: int) -> None:
        self.model = model
        self.noise = ExampleNoise("normal", (KL_SAMPLES, model.latent_dim), seed, LATENT_DIAGNOSIS_STREAM)
        self.generator = torch.Generator().manual_seed(mixed_seed(seed, LATENT_DIAGNOSIS_STREAM, 1))
        self.count = 0
        self.features: list[tuple[Tensor, ...]] = []
        self.means: list[Tensor] = []
        self.kls: list[Tensor] = []
        self.by_latent: list[Tensor] = []
        self.notes: list[str] = []
        self.prior: Distribution | None = None  # where it is one for all examples

    @classmethod
    def of(
        cls,
        model: VAE,
        batches: Iterable[Batch],
        seed: int,
        step: Callable[[int], None] | None,
    ) -> _Codes:
        """Encode a data set."""
        codes = cls(model, seed)
        with evaluating(model):
            for batch in batches:
                codes._add(batch.to(model.device))
                if step is not None:
                    step(len(batch))
        if not codes.means:
            raise ArgumentError("a diagnosis of latents needs at least two examples; got none.")
        return codes

    def _add(self, batch: Batch) -> None:
        features = self.model.features(batch.x, batch.context)
        q, p = self.model.posterior_of(features, len(batch)), self.model.prior_for(batch.context, len(batch))
        assert p is not None
        self.prior = None if p.batch_shape else p
        self.features.append((features,) if isinstance(features, Tensor) else tuple(features))
        self.means.append(mean_of(q).cpu().double())
        value = exact_kl(q, p)
        if value is None:
            self._say(f"the KL has no closed form here: it was estimated from {KL_SAMPLES} samples of each example")
            value = kl(q, p, self._sampled(q, batch))
        self.count += len(batch)
        self.kls.append(value.cpu().double())
        by_latent = kl_per_dimension(q, p)
        if by_latent is not None:
            self.by_latent.append(by_latent.cpu().double())
        elif factors_of(q) is None or factors_of(p) is None:
            self._say("posterior and prior do not both factorise: there is no KL per latent")
        else:
            self._say("the KL of a latent has no closed form for this posterior and prior: there is no KL per latent")

    def _sampled(self, q: Distribution, batch: Batch) -> Tensor:
        """Samples of the posteriors, `[K, B, d]`, each example's its own whatever the batch, if the posterior has a map from noise."""
        index = torch.arange(self.count, self.count + len(batch)) if batch.index is None else batch.index
        z = reparameterise(q, self.noise.rows(index).transpose(0, 1).to(batch.x))
        if z is not None:
            return z
        self._say("the posterior draws its own samples: its KL also depends on the batch size")
        with seeded(self.generator, self.model.device):
            drawn: Tensor = q.sample((KL_SAMPLES,))
        return drawn

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    @property
    def mean(self) -> Tensor:
        """Posterior means, `[N, d]`, float64."""
        return torch.cat(self.means)

    @property
    def kl(self) -> Tensor:
        """KLs, `[N]`, float64."""
        return torch.cat(self.kls)

    @property
    def kl_per_dim(self) -> Tensor | None:
        """KL of each latent, `[N, d]`, float64, or `None`."""
        return torch.cat(self.by_latent) if self.by_latent else None

    def posterior(self, rows: Any) -> Distribution:
        """Posteriors of some examples, as one batch."""
        parts = [torch.cat(part)[rows] for part in zip(*self.features, strict=True)]
        if next(self.model.posterior.parameters(), None) is None:
            parts = [part.cpu().double() for part in parts]  # exact, where nothing ties it to the model's precision
        return self.model.posterior_of(parts[0] if len(parts) == 1 else tuple(parts))

    def samples(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One sample of some posteriors each, `[n, d]`, and its log density given its own example, `[n]`, float64."""
        q = self.posterior(rows)
        like = q.mean
        eps = torch.randn(1, *like.shape, generator=generator, dtype=torch.float64)
        z = reparameterise(q, eps.to(like))
        if z is None:
            with seeded(generator, like.device):
                z = q.sample((1,))
        return z[0], q.log_prob(z)[0].cpu().double()


class _Mixture:
    """The aggregate posterior of some examples, `q(z) = 1/M sum_m q(z|x_m)`."""

    def __init__(self, q: Distribution) -> None:
        self.q = q
        self.factors = factors_of(q)
        self.count = int(q.batch_shape[0])

    def log_density(self, z: Tensor, without: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """`log q(z)` and `sum_j log q(z_j)` at each of `z` `[n, d]`, float64, perhaps without one component each."""
        joint, marginal = [], []
        for i, part in enumerate(z.split(QUERIES_AT_ONCE)):
            rows, count = torch.arange(len(part)), self.count - (without is not None)
            left_out = None if without is None else without[i * QUERIES_AT_ONCE :][: len(part)]
            if self.factors is not None:
                terms = in_double(self.factors.log_prob(part[:, None]))  # [n, M, d]
                if left_out is not None:
                    terms[rows, left_out] = -math.inf
                marginal.append((terms.logsumexp(1) - math.log(count)).sum(1).cpu())
                together = terms.sum(2)
            else:
                together = in_double(self.q.log_prob(part[:, None]))
                if left_out is not None:
                    together[rows, left_out] = -math.inf
            joint.append((together.logsumexp(1) - math.log(count)).cpu())
        return torch.cat(joint), torch.cat(marginal) if marginal else None


def _hole_share(usual: Tensor, drawn: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Share of prior samples where `q(z) / p(z)` is lower than at all but one in a hundred held-out posterior samples, and its error.

    The error is a bootstrap of both, since the threshold is as uncertain as the share.
    """
    shares = []
    for _ in range(RESAMPLED):
        thresholds, samples = (
            values[torch.randint(len(values), (len(values),), generator=generator)] for values in (usual, drawn)
        )
        shares.append(_share_below(samples, thresholds))
    return _share_below(drawn, usual), float(torch.tensor(shares, dtype=torch.float64).std())


def _has_holes(holes: Holes) -> bool:
    """Tell whether a share of holes lies above a tenth by more than its error can explain."""
    share, error = holes
    return share is not None and share - SURE * (error or 0.0) > MANY_HOLES


def _share_below(drawn: Tensor, usual: Tensor) -> float:
    return float((drawn < torch.quantile(usual, RARE)).double().mean())


def _verdict(kl: float, active: Tensor, information: float, cap: float, holes: Holes) -> tuple[str, str]:
    """Collapse, and the sentence."""
    used, latents = int(active.sum()), len(active)
    unused = latents - used
    if used == 0:
        return "full", (
            f"Posterior collapse: no latent is active ({kl:.2f} nats of KL), so the decoder ignores z and every "
            "sample is drawn from the same average."
        )
    capped = " (at its estimator's cap, so it may be more)" if information > 0.95 * cap else ""
    first = f"The code holds {kl:.1f} nats in {used} of {latents} latents; mutual information {information:.1f} nats{capped}."
    if _has_holes(holes):
        first += f" {100 * (holes[0] or 0.0):.0f} % of prior samples fall into holes, where no data are coded: expect samples worse than reconstructions."
    if unused:
        return "partial", f"{first} {unused} latents are unused: fewer would do."
    return "none", first
