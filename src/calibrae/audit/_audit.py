"""The audit: probe, measure, conclude."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..errors import ArgumentError
from ._adapters import in_usual_order
from ._checks import GradientCheck, check_additive, check_extremes, check_gradients, check_idle, check_stationary
from ._conclude import conclude
from ._divergence import Divergence, find_divergence
from ._evidence import Evidence
from ._inputs import SPACES, Inputs, Kind, Sizes, Space
from ._kl_probe import KLProbe
from ._probe import POSTERIORS, Loss, Posterior, Probe, ProbeError
from ._reconsider import reconsidered, weight_of_nats
from ._reconstruction import Reconstruction, find_reconstruction, measure_weight
from ._record import AuditRecord
from ._scaling import WHOLE, Powers, find_powers

SEEDS = 5
FEW, SECONDS = 4, 0.02  # examples of the first call, and what a call of the exploration may take
NUMBERS = 1 << 18  # elements of a batch that the exploration uses at most; the weights are then measured at full size
KINDS: tuple[Kind, ...] = ("continuous", "one-hot-last", "one-hot-first")
COARSE, FINE = (1.0, 2.0, 4.0, 8.0), 2.0**-13  # a relative change that half precision rounds away
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
        loss: returns one number, or a tuple, dict or object that begins with or holds `loss`. Parameters that are named
            `recon_x`, `x`, `mu`, `log_var` or the like may stand in any order; for another signature pass a lambda.
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
    if not callable(loss):
        raise ArgumentError(f"the loss must be callable; got {type(loss).__name__}.")
    sizes = _checked(data_shape, latent_dim, batch_size, data_range, x_hat, posterior)
    probe, small = _working_probe(in_usual_order(loss), posterior, sizes, data_range, x_hat)
    evidence = _measured(probe, small, sizes, data_range, x_hat)
    return replace(conclude(evidence, data_range), evaluations=probe.calls, seconds=time.perf_counter() - started)


def _measured(probe: Probe, small: Sizes, sizes: Sizes, data_range: tuple[float, float], x_hat: Space) -> Evidence:
    """All that the findings rest on: explored at a small batch, with the weights of the full one."""
    if _is_coarse(probe, small, Inputs(data_range, x_hat)):
        nothing = Reconstruction("unknown", None, None, Inputs(data_range, x_hat))
        return Evidence(nothing, Divergence("unknown", None), UNKNOWN, UNKNOWN, sizes, width=1.0, coarse=True)
    drift, spread = _steadiness(probe, small, Inputs(data_range, x_hat))
    reconstruction = find_reconstruction(probe, small, data_range, x_hat)
    inputs = reconstruction.inputs
    kl = _kl_probe(probe, inputs, small)
    whole = WHOLE if probe.dtype == torch.float64 else 0.2
    ours = _powers_of_reconstruction(probe, reconstruction, small, whole)
    if drift:
        return Evidence(
            _at_full_size(probe, reconstruction, sizes), Divergence("unknown", None), ours, UNKNOWN, sizes,
            width=data_range[1] - data_range[0], drift=drift,
        )  # fmt: skip
    divergence, kl, additive = _divergence(kl, reconstruction, sampled=bool(spread) and _is_sampled(kl))
    theirs = _powers_of_kl(probe, inputs, divergence, small, whole)
    rest = _at_rest(kl, reconstruction, ours)
    checks = _gradients(kl, reconstruction, divergence)
    extremes, raising = check_extremes(probe, inputs, small)
    if small != sizes:
        reconstruction = _at_full_size(probe, reconstruction, sizes)
        divergence = _divergence_at_full_size(probe, inputs, divergence, sizes)
    ours, theirs, missing = _judged_by_size(ours, theirs, reconstruction, divergence, sizes)
    return Evidence(
        reconstruction,
        divergence,
        ours,
        theirs,
        sizes,
        width=data_range[1] - data_range[0],
        gradients=tuple(checks),
        differentiable=probe.gives_tensors,
        extremes=tuple(extremes),
        raising=tuple(raising),
        additive=additive
        and (divergence.kind == "none" or reconstruction.kind == "none" or _additive(kl, reconstruction, divergence)),
        stationary=reconstruction.kind not in ("unknown", "laplace") or check_stationary(kl, reconstruction),
        idle=0.0 if reconstruction.inputs.kind.startswith("one-hot") else check_idle(kl, reconstruction),
        spread=spread,
        at_rest=rest,
        could_not_vary=missing,
        several=probe.gives_several,
    )


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
    failures: list[str] = []
    for dtype, needs in itertools.product((torch.float64, torch.float32), (False, True)):
        probe = Probe(loss, posterior, dtype, needs_gradients=needs)
        for tried in dict.fromkeys((sizes.with_batch(min(sizes.batch_size, FEW)), sizes)):
            seconds = _seconds(probe, tried, data_range, space, failures)
            if seconds is None:
                continue
            affordable = int(tried.batch_size * max(1.0, SECONDS / seconds))
            most = min(affordable, max(FEW, NUMBERS // sizes.data_dim))
            small = sizes.with_batch(min(sizes.batch_size, max(tried.batch_size, most)))
            if small != sizes and _seconds(probe, small, data_range, space, failures) is None:
                small = sizes
            return Probe(loss, posterior, probe.precision, needs_gradients=needs), small
    raise ProbeError(
        f"the loss cannot be called as loss(x, x_hat, mu, {posterior}) with x and x_hat {(sizes.batch_size, *sizes.data_shape)}, "
        f"mu {(sizes.batch_size, sizes.latent_dim)}: {failures[0]}. For another signature wrap it in a function of these four; a flat output wants a flat data_shape, such as 784."
    )


def _seconds(
    probe: Probe, sizes: Sizes, data_range: tuple[float, float], space: Space, failures: list[str]
) -> float | None:
    """How long a call takes; `None`, and why, if the loss accepts no kind of data."""
    zero = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)
    for kind in KINDS:
        inputs = Inputs(data_range, space, kind)
        x = inputs.x(sizes, seed=0)
        guess = inputs.guess(x, 0, 0.5)
        started = time.perf_counter()
        try:
            probe.value(x, guess, zero, zero)
        except ProbeError as error:
            failures.append(str(error))
        else:
            return max(1e-6, time.perf_counter() - started)
    return None


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


def _is_coarse(probe: Probe, sizes: Sizes, inputs: Inputs) -> bool:
    """Whether the loss does not see changes of the mean that single precision would, at any of several means."""
    for kind in KINDS:
        made = replace(inputs, kind=kind)
        x = made.x(sizes, seed=0)
        kl = KLProbe(probe, x, made.guess(x, 0, 0.5), sizes)
        try:
            coarse = [kl.one(mean) for mean in COARSE]
            fine = [kl.one(mean * (1.0 + FINE)) for mean in COARSE]
        except ProbeError:
            continue
        return coarse == fine and len(set(coarse)) == len(coarse)
    return False


def _kl_probe(probe: Probe, inputs: Inputs, sizes: Sizes) -> KLProbe:
    x = inputs.x(sizes, seed=0)
    near = inputs.near(x) if not inputs.kind.startswith("one-hot") else inputs.guess(x, 0, 0.0)
    start = torch.zeros(sizes.batch_size, sizes.latent_dim, dtype=torch.float64)
    value = probe.value(x, near, start, start)
    if not math.isfinite(value):
        near = inputs.guess(x, 0, 0.9)
    return KLProbe(probe, x, near, sizes)


def _is_sampled(kl: KLProbe) -> bool:
    """Whether the KL's part of the loss varies from seed to seed, and not only the reconstruction's."""
    for mean in (0.5, kl.mean_at(64.0), kl.mean_at(1e3)):  # above most floors
        rises = torch.tensor([kl.one(mean, -0.3, s) - kl.one(0.0, 0.0, s) for s in range(SEEDS)], dtype=torch.float64)
        if bool(rises.std() > 1e-9 * rises.abs().max()):
            return True
    return False


def _divergence(kl: KLProbe, found: Reconstruction, *, sampled: bool) -> tuple[Divergence, KLProbe, bool]:
    """The KL's term at the best reconstruction, or where there is none at another: then the terms are not independent."""
    divergence = reconsidered(kl, find_divergence(kl, sampled), sampled=sampled)
    if divergence.kind != "none" or found.kind == "none":
        return divergence, kl, True
    other = KLProbe(kl.probe, kl.x, found.inputs.guess(kl.x, 21, 0.3), kl.sizes)
    elsewhere = find_divergence(other, sampled)
    return (elsewhere, other, False) if elsewhere.kind != "none" else (divergence, kl, True)


def _powers_of_reconstruction(probe: Probe, found: Reconstruction, sizes: Sizes, whole: float) -> Powers:
    """Of the weight of each example's squared error (or other sum) in the scalar."""
    if found.weight is None or found.kind in ("none", "unknown"):
        return UNKNOWN
    powers = find_powers(lambda s: measure_weight(probe, s, found), sizes, found.inputs, whole)
    if found.kind != "log_mse":
        return powers
    # c ln MSE stands for c / (B D MSE) of each squared error, or c / (D MSE) where each example has its own
    batch = powers.batch if powers.batch is None or found.scope == "example" else powers.batch - 1.0
    return replace(powers, batch=batch, data=None if powers.data is None else powers.data - 1.0)


def _powers_of_kl(probe: Probe, inputs: Inputs, found: Divergence, sizes: Sizes, whole: float) -> Powers:
    if not found.weight or (found.kind == "not_a_kl" and found.wrap is not None and found.wrap.kind == "other"):
        return UNKNOWN
    return find_powers(lambda s: weight_of_nats(_kl_probe(probe, inputs, s), found), sizes, inputs, whole)


def _at_full_size(probe: Probe, found: Reconstruction, sizes: Sizes) -> Reconstruction:
    """What was found with fewer examples, with the weight of the batch size that was asked for."""
    if not found.weight or found.kind in ("none", "unknown"):
        return found
    return replace(found, weight=measure_weight(probe, sizes, found))


def _divergence_at_full_size(probe: Probe, inputs: Inputs, found: Divergence, sizes: Sizes) -> Divergence:
    """The same for the KL, whose capacity may be that of a whole batch."""
    if not found.weight:
        return found
    kl = _kl_probe(probe, inputs, sizes)
    level = found.level or 1.0
    rescaled = found.rescaled(weight_of_nats(kl, found) / found.weight)
    wrap = rescaled.wrap
    if wrap is None or wrap.constant is None or wrap.kind == "clamp" or not rescaled.weight:
        return rescaled
    slope = rescaled.weight * sizes.batch_size
    kl.seeds = 8 if found.kind == "monte_carlo" else 1
    gap = level - (kl.at(kl.mean_at(level)) - kl.at(0.0)) / slope
    return replace(rescaled, wrap=replace(wrap, constant=gap / (2.0 if wrap.kind == "capacity" else 1.0)))


def _judged_by_size(
    ours: Powers, theirs: Powers, reconstruction: Reconstruction, divergence: Divergence, sizes: Sizes
) -> tuple[Powers, Powers, tuple[str, ...]]:
    """Powers that could not be measured, from which reading leaves the plainest weight."""
    missing: list[str] = []
    a, b = reconstruction.weight, divergence.weight
    if a and reconstruction.kind not in ("none", "unknown", "log_mse"):
        ours = _filled(ours, a, sizes.batch_size, "data", reconstruction.inputs.positions(sizes), missing)
    if b:
        theirs = _filled(theirs, b, sizes.batch_size, "latent", sizes.latent_dim, missing)
    return ours, theirs, tuple(dict.fromkeys(missing))


def _filled(powers: Powers, weight: float, batch: int, name: str, size: int, missing: list[str]) -> Powers:
    """Powers of the batch and of one more size, the missing ones as sums or means."""
    known = {"batch": powers.batch, name: getattr(powers, name)}
    names = {"batch": "batch size", "data": "number of data dimensions", "latent": "number of latents"}
    missing += [names[part] for part, power in known.items() if power is None]
    options = [
        (_plainness(weight * batch**-of_batch * size**-of_size), of_batch, of_size)
        for of_batch in ((0.0, -1.0) if known["batch"] is None else (known["batch"],))
        for of_size in ((0.0, -1.0) if known[name] is None else (known[name],))
    ]
    plainest = min(options)
    clear = sum(o[0] == plainest[0] for o in options) == 1
    if not clear or len(options) == 1:
        return powers
    return replace(powers, batch=plainest[1], **{name: plainest[2]})


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
    try:
        return check_gradients(kl, reconstruction, divergence.level)
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
    return kl.one(0.0) / (kl.sizes.batch_size if ours.batch == 0 else 1)
