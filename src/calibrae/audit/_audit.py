"""The audit: probe, measure, conclude."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..errors import ArgumentError
from ._adapters import in_usual_order
from ._checks import (
    GradientCheck,
    check_additive,
    check_extremes,
    check_gradients,
    check_stationary,
    check_unused_output,
)
from ._classify_kl import classify_kl, remeasured_weight
from ._conclude import conclude
from ._evidence import Evidence
from ._full_size import fill_powers, kl_at_full_size, reconstruction_at_full_size
from ._inputs import Inputs, Sizes, Space
from ._kl_probe import KLProbe
from ._kl_term import KLTerm, NoKL, NotMeasured
from ._preparation import SEEDS, checked_sizes, is_half_precision, make_kl_probe, steadiness, working_probe
from ._probe import Loss, Posterior, Probe, ProbeError
from ._reconstruction import Reconstruction, batch_power_of_unknown, find_reconstruction, measure_weight
from ._record import AuditRecord
from ._scaling import Powers, find_powers
from ._tolerances import Tolerances

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
        loss: callable that returns one number, or a tuple, dict or object that begins with or holds `loss`. Parameters that are named
            `recon_x`, `x`, `mu`, `log_var` or the like may stand in any order; for another signature pass a lambda.
        data_shape: shape of one example.
        latent_dim: number of latents, `d`.
        batch_size: number of examples, `B`.
        data_range: smallest and largest value of the data.
        x_hat: space of its second argument: `data` (means in units of the data), `probs`, `logits` or `logp`.
        posterior: meaning of its fourth argument: the posterior's `logvar`, `log_std`, `std` or `var`.

    Returns:
        The record. `a` and `b` are coefficients, in the returned scalar, of each example's sum: a batch mean carries 1/B.

    Raises:
        ArgumentError: if a size or a name is not usable.
        ProbeError: if the loss raises on every kind of input, or does not return one number.

    Examples:
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
    sizes = checked_sizes(data_shape, latent_dim, batch_size, data_range, x_hat, posterior)
    probe, small = working_probe(in_usual_order(loss), posterior, sizes, data_range, x_hat)
    evidence = _measured(probe, small, sizes, Inputs(data_range, x_hat))
    return replace(conclude(evidence, data_range), evaluations=probe.calls, seconds=time.perf_counter() - started)


def _measured(probe: Probe, small: Sizes, sizes: Sizes, stated: Inputs) -> Evidence:
    """Measure all that the findings rest on: explore at a small batch, take the weights from the full one."""
    if is_half_precision(probe, small, stated):
        nothing = Reconstruction("unknown", None, None, stated)
        return Evidence(nothing, NotMeasured(), UNKNOWN, UNKNOWN, sizes, width=1.0, half_precision=True)
    drift, spread = steadiness(probe, small, stated)
    reconstruction = find_reconstruction(probe, small, stated.data_range, stated.space)
    powers = _powers_of_reconstruction(probe, reconstruction, small)
    if drift:
        reconstruction = reconstruction_at_full_size(probe, reconstruction, sizes)
        return Evidence(reconstruction, NotMeasured(), powers, UNKNOWN, sizes, width=stated.width, drift=drift)
    return _beside_kl(probe, reconstruction, powers, small, sizes, spread)


def _beside_kl(
    probe: Probe, reconstruction: Reconstruction, powers: Powers, small: Sizes, sizes: Sizes, spread: float
) -> Evidence:
    """Measure the KL, and whatever needs both terms."""
    inputs = reconstruction.inputs
    kl = make_kl_probe(probe, inputs, small)
    term, kl, additive = _classified(kl, reconstruction, sampled=bool(spread) and _is_sampled(kl))
    kl_powers = _powers_of_kl(probe, inputs, term, small)
    value_at_optimum = _value_at_optimum(kl, reconstruction, powers)
    checks = _gradients(kl, reconstruction, term.weight.level)
    not_finite, refused = check_extremes(probe, inputs, small)
    full, full_term = reconstruction, term
    if small != sizes:
        full = reconstruction_at_full_size(probe, reconstruction, sizes)
        full_term = kl_at_full_size(probe, inputs, term, sizes)
    powers, kl_powers, missing = fill_powers((powers, kl_powers), full, full_term, sizes)
    needs_both = not isinstance(term, NoKL) and reconstruction.kind != "none"
    return Evidence(
        full,
        full_term,
        powers,
        kl_powers,
        sizes,
        width=inputs.width,
        gradients=tuple(checks),
        differentiable=probe.gives_tensors,
        not_finite=tuple(not_finite),
        refused=tuple(refused),
        additive=additive and (not needs_both or _additive(kl, reconstruction, term.weight.level)),
        stationary=reconstruction.kind not in ("unknown", "laplace") or check_stationary(kl, reconstruction),
        unused_output=0.0 if inputs.kind.startswith("one-hot") else check_unused_output(kl, reconstruction),
        seed_spread=spread,
        value_at_optimum=value_at_optimum,
        could_not_vary=missing,
        returns_several=probe.returns_several,
    )


def _is_sampled(kl: KLProbe) -> bool:
    """Tell whether the KL's part of the loss varies from seed to seed, and not only the reconstruction's."""
    for mean in (0.5, kl.mean_at(64.0), kl.mean_at(1e3)):  # above most floors
        rises = torch.tensor([kl.one(mean, -0.3, s) - kl.one(0.0, 0.0, s) for s in range(SEEDS)], dtype=torch.float64)
        if bool(rises.std() > Tolerances.sampled_kl.value * rises.abs().max()):
            return True
    return False


def _classified(kl: KLProbe, reconstruction: Reconstruction, *, sampled: bool) -> tuple[KLTerm, KLProbe, bool]:
    """Classify the KL at the best reconstruction, or, if none is there, at another: then the terms are not independent."""
    term = classify_kl(kl, sampled=sampled)
    if not isinstance(term, NoKL) or reconstruction.kind == "none":
        return term, kl, True
    other = KLProbe(kl.probe, kl.x, reconstruction.inputs.guess(kl.x, 21, 0.3), kl.sizes)
    elsewhere = classify_kl(other, sampled=sampled)
    return (term, kl, True) if isinstance(elsewhere, NoKL) else (elsewhere, other, False)


def _powers_of_reconstruction(probe: Probe, reconstruction: Reconstruction, sizes: Sizes) -> Powers:
    """Exponents in the weight of each example's squared error (or other sum); of an unknown term, that of the batch."""
    if reconstruction.kind == "unknown":
        return replace(UNKNOWN, batch=batch_power_of_unknown(probe, reconstruction.inputs, sizes))
    if reconstruction.weight is None or not reconstruction.is_known:
        return UNKNOWN
    whole = Tolerances.whole_power.at(probe.dtype)
    powers = find_powers(lambda s: measure_weight(probe, s, reconstruction), sizes, reconstruction.inputs, whole)
    if reconstruction.kind != "log_mse":
        return powers
    # c ln MSE stands for c / (B D MSE) of each squared error, be it one logarithm of all or a mean of one for each example
    batch, data = (None if power is None else power - 1.0 for power in (powers.batch, powers.data))
    return replace(powers, batch=batch, data=data)


def _powers_of_kl(probe: Probe, inputs: Inputs, term: KLTerm, sizes: Sizes) -> Powers:
    """Exponents in the weight of each example's KL."""
    no_slope = term.weight.is_nonlinear and not term.is_kl
    if not term.weight.value or no_slope:
        return UNKNOWN
    whole = Tolerances.whole_power.at(probe.dtype)
    return find_powers(lambda s: remeasured_weight(make_kl_probe(probe, inputs, s), term), sizes, inputs, whole)


def _gradients(kl: KLProbe, reconstruction: Reconstruction, level: float) -> list[GradientCheck]:
    try:
        return check_gradients(kl, reconstruction, level)
    except ProbeError:
        return []


def _additive(kl: KLProbe, reconstruction: Reconstruction, level: float) -> bool:
    try:
        return check_additive(kl, reconstruction.inputs, level)
    except ProbeError:
        return True


def _value_at_optimum(kl: KLProbe, reconstruction: Reconstruction, powers: Powers) -> float | None:
    """Loss of an example at a perfect reconstruction and the prior; `None` where `x_hat` cannot be the data."""
    if reconstruction.inputs.space != "data" or reconstruction.treats is not None:
        return None
    return kl.one(0.0) / (kl.sizes.batch_size if powers.batch == 0 else 1)
