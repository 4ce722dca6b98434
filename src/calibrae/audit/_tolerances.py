"""Every tolerance of the audit, with the reason of each: the one place where a threshold may be changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch


@final
@dataclass(frozen=True)
class Tolerance:
    """A threshold and why it is not smaller or larger.

    Attributes:
        value: threshold where the loss works in float64, or where the precision does not matter.
        reason: why so much.
        single: threshold where the loss works in float32, if it is another one.
    """

    value: float
    reason: str
    single: float | None = None

    def at(self, dtype: torch.dtype) -> float:
        """Threshold in a precision."""
        return self.value if self.single is None or dtype == torch.float64 else self.single


@final
class Tolerances:
    """Named thresholds. Those of a "share" are relative; those of "roundings" multiply an estimate of the rounding error."""

    # Randomness and precision of the loss
    same_value = Tolerance(
        1e-12, "identical calls of a deterministic loss agree to the last bits; less is summation order"
    )
    sampled_kl = Tolerance(1e-9, "common random numbers leave rounding only, four digits above that of float64")
    lost_change = Tolerance(
        2.0**-13, "bfloat16 has 8 significant bits and float16 has 11; float32 sees this change easily"
    )

    # Fit of a reconstruction term
    reconstruction_misfit = Tolerance(
        1e-5, "known terms fit to rounding; the nearest wrong one is off by percents", 3e-4
    )
    no_effect = Tolerance(1e-12, "share of the loss below which an output has no effect: rounding of float64")
    data_dependence = Tolerance(
        0.02, "share by which a weight moves with the contrast; weights of a fixed sigma move by rounding"
    )
    inverse_variance = Tolerance(
        0.02, "share by which weight times variance may differ between batches of other contrast"
    )
    linear_far_out = Tolerance(0.1, "share by which a log cosh may bend between the two farthest residuals")
    logarithm = Tolerance(
        0.005, "share by which equal steps of c ln MSE differ: an epsilon in the logarithm is smaller"
    )
    logarithm_inside = Tolerance(
        0.1, "as `logarithm`, for residuals inside the range of the data, which cannot be scaled exactly"
    )
    pooled = Tolerance(0.02, "share of pooling: 0 for a mean squared error, -0.16 for a logarithm of each element")
    same_bits = Tolerance(1e-6, "share of the effect of a bit by which losses of equal bits differ; in fact by nothing")
    threshold_place = Tolerance(1e-4, "share of the range to which a threshold is bisected: finer than a grey level")
    unused_output = Tolerance(0.01, "share of an output without gradient; fewer elements may be at a kink by accident")
    off_minimum = Tolerance(100.0, "roundings by which the data may be beaten by an output beside them")

    # Powers of B, D and d
    whole_power = Tolerance(0.02, "distance of an exponent from a whole number; other powers are at least halves", 0.2)
    same_power = Tolerance(0.1, "difference of two exponents of B; a real one is a whole number")
    plain_weight = Tolerance(1e-4, "share by which a weight may miss a round number that is written in code")
    plain_digits = Tolerance(0.001, "distance of a weight's digits from a whole number that counts as one")

    # Slopes of the loss along the KL
    slope = Tolerance(2e-3, "share by which slopes on a plateau differ; a softplus of the KL differs by more", 2e-2)
    resolved_slope = Tolerance(0.02, "share of the largest slope that rounding may take before a level is left out")
    real_slope = Tolerance(20.0, "roundings that a slope must exceed to be no rounding itself")
    kink_gap = Tolerance(1e-3, "share of the lowest level by which a line through the higher ones may miss the prior")
    kink_rounding = Tolerance(100.0, "roundings that a kink below the lowest level must exceed")
    function_of_kl = Tolerance(1e-4, "share by which equal KLs of means and of deviations may give other losses")

    # Coefficients of the KL
    kl_coefficient = Tolerance(
        5e-3, "share by which coefficients of mu^2, s^2 and ln s may differ in one KL: epsilons in code"
    )
    sweep_misfit = Tolerance(
        1e-2, "share by which a sweep of s may miss the fitted curve; a wrong formula misses by more"
    )
    exact_sweep = Tolerance(1e-3, "misfit at which coefficients other than a KL's are believed", 1e-2)
    exact_shape = Tolerance(1e-6, "misfit at which fitted coefficients are preferred to a misread parameter")
    no_variance = Tolerance(1e-7, "share of the weight below which the standard deviation has no effect")
    constant_loss = Tolerance(1e-13, "share of the loss below which the posterior has no effect: rounding", 1e-5)
    misread_shape = Tolerance(1e-3, "share by which a sweep may miss that of a misread parameter")
    far_out = Tolerance(0.02, "share by which a KL may be missed at s from e^-5 to e^3; a clamp misses by all of it")
    off_centre = Tolerance(1e-4, "mean of the minimum that is told from 0: rounding of a difference", 1e-2)
    off_centre_noise = Tolerance(5.0, "standard errors that the mean of the minimum must exceed")
    flat_minimum = Tolerance(1e-9, "share of the loss below which a dip of a sweep is rounding")
    random_posterior = Tolerance(
        5e-3, "share by which the KL may be missed at random posteriors: as for a coefficient", 5e-2
    )
    unequal_weights = Tolerance(
        10.0, "times `random_posterior` by which the weights of two halves must differ to be told"
    )
    coupled = Tolerance(1e-6, "share by which two examples' changes may fail to add: rounding of four losses")
    averaged_kl = Tolerance(
        -0.3, "relative difference below which means cancel: a KL of averages, not an average of KLs"
    )
    additive = Tolerance(2e-3, "share by which the KL's part may move with the reconstruction: as for a slope")
    sure_digits = Tolerance(4.0, "standard errors granted to each number of a sampled KL")
    sure_difference = Tolerance(8.0, "standard errors granted to the difference of two sampled KLs")

    # Other priors
    prior_misfit = Tolerance(
        1e-7, "share by which gradients may miss those of a prior: they are linear to rounding", 1e-3
    )
    equal_latents = Tolerance(2e-3, "share by which weights of different latents may differ under one prior")
    equal_parts = Tolerance(2e-2, "as `equal_latents`, for ratios of fitted coefficients, whose errors add up")
    standard_errors = Tolerance(5.0, "standard errors within which averages of draws pass for standard normal")
    same_prior = Tolerance(0.01, "share by which a prior's moments may differ from N(0, I) or from a confusion's")
    zero_at_minimum = Tolerance(1e-6, "share of a nat that may be left at a prior's own minimum if constants were kept")
    bound_at_prior = Tolerance(
        1e-6, "share of a nat by which draws of a bound may differ where posterior and prior agree"
    )
    bound_noise = Tolerance(4.0, "standard errors by which a bound may seem to exceed the KL")

    # Gradients
    gradient = Tolerance(0.02, "share by which autograd and a finite difference differ: truncation error", 0.2)
    gradient_rounding = Tolerance(50.0, "roundings that a derivative must exceed to be compared at all")
    difference_rounding = Tolerance(20.0, "roundings of one value that enter a difference of two of them")
    missing_gradient = Tolerance(1e-6, "share of the difference below which a gradient is missing, not small")

    # What is worth a finding
    unit_weight = Tolerance(5e-3, "share by which a weight of 1 may be missed to be told of its half")
    off_prior = Tolerance(0.01, "distance of the minimum's standard deviation from 1 that is told")
    known_factor = Tolerance(0.01, "share by which a ratio of coefficients may miss 2, 1/2 or D/d")
    balanced = Tolerance(1e-6, "share by which a weight that is computed in code may miss the balance of an ELBO")
    zero_constant = Tolerance(1e-9, "share of a squared error of 1 an element below which the loss is 0")
    full_nll = Tolerance(1e-3, "nats per data dimension by which constants of a Gaussian may be missed")
    smallest_sigma = Tolerance(1e-3, "share of the data's range: finer than the noise of any camera")
    largest_sigma = Tolerance(1.001, "share of the data's range, with 1 itself left alone")
