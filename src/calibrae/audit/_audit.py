"""The audit: probe, measure, conclude."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..errors import ArgumentError
from ..functional.conventions import find as find_convention
from ..functional.conventions import translate
from ._checks import GradientCheck, check_additive, check_extremes, check_gradients
from ._divergence import Divergence, KLProbe, Wrap, find_divergence
from ._evidence import Evidence
from ._findings import find
from ._inputs import SPACES, Inputs, Kind, Sizes, Space
from ._match import Match, find_match
from ._probe import POSTERIORS, Loss, Posterior, Probe, ProbeError
from ._reconstruction import Reconstruction, find_reconstruction, measure_weight
from ._record import AuditRecord
from ._scaling import Powers, find_powers

SEEDS = 5
NUMBERS = 1 << 20  # elements of a batch that the exploration uses at most; the weights are then measured at full size
KINDS: tuple[Kind, ...] = ("continuous", "one-hot-last", "one-hot-first")
UNKNOWN = Powers(None, None, None)


def audit_loss(
    loss: Loss,
    *,
    data_shape: Sequence[int],
    latent_dim: int,
    batch_size: int = 64,
    data_range: tuple[float, float] = (0.0, 1.0),
    x_hat: Space = "data",
    posterior: Posterior = "logvar",
) -> AuditRecord:
    r"""Judge a black box `loss(x, x_hat, mu, logvar)` by its values and gradients; its source is never read.

    Known reconstruction terms are fitted to differences of the loss at a fixed posterior; the KL's weight is the curvature
    along its mean, and a sweep of the standard deviation must follow $\tfrac{s^2}{2} - \ln s$. Sums and means are told apart
    by other sizes.

    Args:
        loss: returns one number, or a tuple, dict or object that begins with or holds `loss`. For another signature pass a
            lambda.
        data_shape: of one example.
        latent_dim: `d`.
        batch_size: `B`.
        data_range: smallest and largest value of the data.
        x_hat: what the loss is given: `data` (means in units of the data), `probs`, `logits` or `logp`.
        posterior: what its fourth argument is: the posterior's `logvar`, `log_std`, `std` or `var`.

    Returns:
        The record. `a` and `b` are coefficients, in the returned scalar, of each example's sum: a batch mean carries 1/B.

    Raises:
        ArgumentError: if a size or a name is not usable.
        ProbeError: if the loss raises on every kind of input, or does not return one number.

    Example:
        >>> def loss(x, x_hat, mu, logvar):
        ...     kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
        ...     return torch.nn.functional.mse_loss(x_hat, x) + 0.00025 * kl
        >>> from calibrae.audit import audit_loss
        >>> record = audit_loss(loss, data_shape=(3, 64, 64), latent_dim=128, batch_size=4)
        >>> round(record.rho, 2), round(record.implied_sigma, 2), record.codes("error")
        (3.07, 1.24, [])
    """
    started = time.perf_counter()
    sizes = _checked(data_shape, latent_dim, batch_size, data_range, x_hat, posterior)
    probe, small = _working_probe(loss, posterior, sizes, data_range, x_hat)
    drift, spread = _steadiness(probe, small, Inputs(data_range, x_hat))
    reconstruction = find_reconstruction(probe, small, data_range, x_hat)
    kl = _kl_probe(probe, reconstruction.inputs, small)
    divergence = find_divergence(kl, spread > 0, abs(kl.at(0.0, seeds=1)))
    ours = _powers_of_reconstruction(probe, reconstruction, small)
    theirs = _powers_of_kl(probe, reconstruction.inputs, divergence, small)
    if small != sizes:
        reconstruction, divergence = _at_full_size(probe, reconstruction, divergence, sizes)
    ours, theirs, missing = _judged_by_size(ours, theirs, reconstruction, divergence, sizes)
    evidence = Evidence(
        reconstruction,
        divergence,
        ours,
        theirs,
        sizes,
        width=data_range[1] - data_range[0],
        gradients=tuple(_gradients(kl, reconstruction, divergence)),
        extremes=tuple(check_extremes(probe, reconstruction.inputs, small)),
        additive=reconstruction.kind == "none"
        or divergence.kind == "none"
        or _additive(kl, reconstruction, divergence),
        drift=drift,
        spread=spread,
        at_rest=_at_rest(kl, reconstruction, ours),
        could_not_vary=missing,
    )
    return replace(_record(evidence, data_range), evaluations=probe.calls, seconds=time.perf_counter() - started)


def _checked(
    data_shape: Sequence[int],
    latent_dim: int,
    batch_size: int,
    data_range: tuple[float, float],
    x_hat: str,
    posterior: str,
) -> Sizes:
    if not data_shape or min(*data_shape, latent_dim, batch_size) < 1:
        raise ArgumentError(
            f"data_shape, latent_dim and batch_size must be positive; got {tuple(data_shape)}, {latent_dim}, {batch_size}."
        )
    if x_hat not in SPACES:
        raise ArgumentError(f"`x_hat` must be one of {', '.join(SPACES)}; got {x_hat!r}.")
    if posterior not in POSTERIORS:
        raise ArgumentError(f"`posterior` must be one of {', '.join(POSTERIORS)}; got {posterior!r}.")
    if not data_range[0] < data_range[1]:
        raise ArgumentError(f"`data_range` must be lo < hi; got {data_range[0]:g}, {data_range[1]:g}.")
    return Sizes(tuple(data_shape), latent_dim, batch_size)


def _working_probe(
    loss: Loss, posterior: Posterior, sizes: Sizes, data_range: tuple[float, float], space: Space
) -> tuple[Probe, Sizes]:
    """In float64 if the loss takes it, else in float32; with fewer examples than asked where one is large.

    Raises:
        ProbeError: if it takes neither.
    """
    failures = []
    fewer = sizes.with_batch(min(sizes.batch_size, max(2, NUMBERS // sizes.data_dim)))
    for dtype, tried in itertools.product((torch.float64, torch.float32), dict.fromkeys((fewer, sizes))):
        probe = Probe(loss, posterior, dtype)
        zero = torch.zeros(tried.batch_size, tried.latent_dim, dtype=torch.float64)
        for kind in KINDS:
            inputs = Inputs(data_range, space, kind)
            x = inputs.x(tried, seed=0)
            try:
                probe.value(x, inputs.guess(x, 0, 0.5), zero, zero)
            except ProbeError as error:
                failures.append(str(error))
            else:
                return Probe(loss, posterior, probe.precision), tried
    raise ProbeError(
        f"the loss cannot be called as loss(x, x_hat, mu, {posterior}) with x and x_hat {(sizes.batch_size, *sizes.data_shape)}, "
        f"mu {(sizes.batch_size, sizes.latent_dim)}: {failures[0]} Pass a lambda for another signature."
    )


def _steadiness(probe: Probe, sizes: Sizes, inputs: Inputs) -> tuple[float, float]:
    """Relative change between identical calls, and relative spread over seeds."""
    generator = torch.Generator().manual_seed(9)
    mu = torch.randn(sizes.batch_size, sizes.latent_dim, generator=generator, dtype=torch.float64)
    for kind in KINDS:
        made = replace(inputs, kind=kind)
        x = made.x(sizes, seed=0)
        try:
            same = [probe.value(x, made.guess(x, 0, 0.5), mu, -0.5 + 0.0 * mu, 0) for _ in range(2)]
            seeds = [probe.value(x, made.guess(x, 0, 0.5), mu, -0.5 + 0.0 * mu, seed) for seed in range(SEEDS)]
        except ProbeError:
            continue
        size = max(map(abs, [*same, *seeds])) or 1.0
        drift = abs(same[1] - same[0]) / size
        spread = float(torch.tensor(seeds, dtype=torch.float64).std()) / size
        return (drift if drift > 1e-12 else 0.0), (0.0 if drift > 1e-12 or spread < 1e-12 else spread)
    return 0.0, 0.0


def _kl_probe(probe: Probe, inputs: Inputs, sizes: Sizes) -> KLProbe:
    x = inputs.x(sizes, seed=0)
    near = inputs.near(x) if not inputs.kind.startswith("one-hot") else inputs.guess(x, 0, 0.0)
    start = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)
    value = probe.value(x, near, start, start)
    if not math.isfinite(value):
        near = inputs.guess(x, 0, 0.9)
    return KLProbe(probe, x, near, sizes)


def _powers_of_reconstruction(probe: Probe, found: Reconstruction, sizes: Sizes) -> Powers:
    """Of the weight of each example's squared error (or other sum) in the scalar."""
    if found.weight is None or found.kind in ("none", "unknown"):
        return UNKNOWN
    powers = find_powers(lambda s: measure_weight(probe, s, found), sizes)
    if found.kind != "log_mse":
        return powers
    # c ln MSE stands for c / (B D MSE) of each squared error, or c / (D MSE) where each example has its own
    batch = powers.batch if powers.batch is None or found.scope == "example" else powers.batch - 1.0
    return replace(powers, batch=batch, data=None if powers.data is None else powers.data - 1.0)


def _powers_of_kl(probe: Probe, inputs: Inputs, found: Divergence, sizes: Sizes) -> Powers:
    if not found.weight:
        return UNKNOWN
    level = found.level or 1.0
    return find_powers(lambda s: _kl_probe(probe, inputs, s).curvature(level), sizes)


def _at_full_size(
    probe: Probe, reconstruction: Reconstruction, divergence: Divergence, sizes: Sizes
) -> tuple[Reconstruction, Divergence]:
    """What was found with fewer examples, with the weights of the batch size that was asked for."""
    if reconstruction.weight and reconstruction.kind not in ("none", "unknown"):
        reconstruction = replace(reconstruction, weight=measure_weight(probe, sizes, reconstruction))
    if divergence.weight:
        kl = _kl_probe(probe, reconstruction.inputs, sizes)
        divergence = divergence.rescaled(kl.curvature(divergence.level or 1.0) / divergence.weight)
    return reconstruction, divergence


def _judged_by_size(
    ours: Powers, theirs: Powers, reconstruction: Reconstruction, divergence: Divergence, sizes: Sizes
) -> tuple[Powers, Powers, tuple[str, ...]]:
    """Powers that could not be measured, from which reading leaves a round weight."""
    missing = []
    a, b = reconstruction.weight, divergence.weight
    if a is not None and reconstruction.kind not in ("none", "unknown", "log_mse"):
        per_example = a * (sizes.batch_size if ours.batch == -1 else 1)
        if ours.data is None:
            missing.append("number of data dimensions")
            ours = replace(ours, data=_power_by_size(per_example, sizes.data_dim))
        if ours.batch is None:
            missing.append("batch size")
    if b:
        per_example = b * (sizes.batch_size if theirs.batch == -1 else 1)
        if theirs.latent is None:
            missing.append("number of latents")
            theirs = replace(theirs, latent=_power_by_size(per_example, sizes.latent_dim))
    return ours, theirs, tuple(missing)


def _power_by_size(weight: float, size: int) -> float | None:
    """0 for a sum, -1 for a mean: whichever leaves the plainer weight."""
    of_sum, of_mean = _plainness(weight), _plainness(weight * size)
    return None if of_sum == of_mean else 0.0 if of_sum < of_mean else -1.0


def _plainness(weight: float) -> int:
    """0 for 1, 1 for a half or a power of ten, then the number of digits; 9 for more than three."""
    if weight == 0:
        return 9
    exponent = math.floor(math.log10(abs(weight)) + 1e-9)
    digits = abs(weight) / 10.0**exponent
    if abs(digits - 1.0) < 1e-4 or abs(weight - 0.5) < 1e-4:
        return int(exponent != 0)
    return next((count for count in (2, 3) if abs(digits * 10 ** (count - 2) % 1.0 - 0.5) > 0.499), 9)


def _gradients(kl: KLProbe, reconstruction: Reconstruction, divergence: Divergence) -> list[GradientCheck]:
    scale = abs(kl.at(kl.mean_at(max(divergence.level, 1.0)), seeds=1))
    try:
        return check_gradients(kl, reconstruction.inputs, divergence.level, scale)
    except ProbeError:
        return []


def _additive(kl: KLProbe, reconstruction: Reconstruction, divergence: Divergence) -> bool:
    try:
        return check_additive(kl, reconstruction.inputs, divergence.level)
    except ProbeError:
        return True


def _at_rest(kl: KLProbe, reconstruction: Reconstruction, ours: Powers) -> float | None:
    """The loss of an example at a perfect reconstruction and the prior; `None` where `x_hat` cannot be the data."""
    if reconstruction.inputs.space != "data" or reconstruction.treats is not None:
        return None
    return kl.at(0.0, seeds=1) / (kl.sizes.batch_size if ours.batch == 0 else 1)


def _full_nll_sigma(e: Evidence) -> float | None:
    """Sigma, if the loss carries the constants of a Gaussian NLL with the sigma that its weight says."""
    a, _ = e.per_example()
    if e.reconstruction.kind != "gaussian" or not a or a < 0 or e.at_rest is None or e.data_reduction != "sum":
        return None
    sigma = math.sqrt(0.5 / a)
    constants = e.sizes.data_dim * (math.log(sigma) + 0.5 * math.log(2.0 * math.pi))
    return sigma if abs(e.at_rest - constants) <= 1e-3 * e.sizes.data_dim else None


def _wrap_to_dict(wrap: Wrap | None) -> dict[str, object] | None:
    return None if wrap is None else {"kind": wrap.kind, "constant": wrap.constant, "scope": wrap.scope}


def _record(e: Evidence, data_range: tuple[float, float]) -> AuditRecord:
    found, kl = e.reconstruction, e.divergence
    a, b = found.weight, kl.weight
    ratio = b / a if a and found.kind not in ("log_mse", "unknown", "none") and a > 0 else None
    if found.kind == "log_mse" and a:
        ratio = b * e.sizes.data_dim * e.sizes.batch_size / (2.0 * a)
    squared = ratio is not None and found.kind in ("gaussian", "log_cosh")
    rho = (
        (ratio * (2.0 / found.alpha if found.kind == "log_cosh" and found.alpha else 1.0))
        if squared and ratio is not None
        else None
    )
    nll_sigma = _full_nll_sigma(e)
    match = _match(e, ratio, nll_sigma)
    return AuditRecord(
        reconstruction=found.kind,
        reconstruction_weight=a,
        sse_weight=a if found.kind == "gaussian" else None,
        kl_weight=b,
        batch_reduction=e.batch_reduction,
        data_reduction=e.data_reduction,
        latent_reduction=e.latent_reduction,
        kl_kind=kl.kind,
        kl_minimum_std=kl.minimum_std,
        wrap=_wrap_to_dict(kl.wrap),
        rho=rho,
        implied_sigma=math.sqrt(rho / 2.0) if rho is not None and rho >= 0 else None,
        implied_beta=ratio if found.kind in ("bernoulli", "categorical", "log_mse") else None,
        implied_laplace_scale=ratio if found.kind == "laplace" else None,
        convention=match.convention.name if match else None,
        convention_value=match.value if match else None,
        nll_sigma=nll_sigma,
        equivalents=_equivalents(match, e, data_range, nll_sigma) if match else {},
        findings=find(e),
        stochastic=e.spread > 0,
        weight_error=kl.error,
        powers={
            "reconstruction_B": e.ours.batch,
            "reconstruction_D": e.ours.data,
            "reconstruction_d": e.ours.latent,
            "kl_B": e.theirs.batch,
            "kl_D": e.theirs.data,
            "kl_d": e.theirs.latent,
        },
        could_not_vary=e.could_not_vary,
    )


def _match(e: Evidence, ratio: float | None, nll_sigma: float | None) -> Match | None:
    ours, theirs = e.per_example()
    sizes = {"D": float(e.sizes.data_dim), "d": float(e.sizes.latent_dim), "B": float(e.sizes.batch_size)}
    if ratio is None or ours is None:
        return None
    if nll_sigma is not None and e.latent_reduction == "sum":
        return Match(find_convention("nll"), theirs)
    weights = (1.0, ratio) if e.reconstruction.kind == "log_mse" else (ours, theirs)
    return find_match(e.reconstruction.kind, weights, (e.ours, e.theirs), sizes, e.divergence.wrap)


def _equivalents(
    match: Match, e: Evidence, data_range: tuple[float, float], nll_sigma: float | None
) -> dict[str, float]:
    sizes = {"data_shape": e.sizes.data_shape, "latent_dim": e.sizes.latent_dim, "batch_size": e.sizes.batch_size}
    try:
        found = translate(match.value, match.convention.name, data_range=data_range, sigma=nll_sigma, **sizes)  # type: ignore[arg-type]
    except ArgumentError:
        return {}
    return dict(found.equivalents)
