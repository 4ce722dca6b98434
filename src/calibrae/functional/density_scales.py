r"""Likelihoods of 8-bit data on every scale that people report: nats or bits, on [0, 1], [-1, 1], [0, 256) or logits.

A density changes with the scale of its data. If one level of the data is $s$ wide on a scale, then
$$-\log p_\text{levels}(y) = -\log p_\text{scale}(x) - D \log s,$$
and for data that were dequantised with uniform noise of one level this is an upper bound on $-\log P$ of the integers
(Theis et al. 2016). Bits per dimension are that number over $D \log 2$.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import ArgumentError

UNITS = ("nats", "nats-per-dim", "bits", "bits-per-dim")
LOG_2 = math.log(2.0)


@dataclass(frozen=True, slots=True)
class DensityScale:
    """Scale on which a density of integer data is reported.

    Attributes:
        name: name for `--from`.
        formula: from the level `u` and uniform noise to what the model sees.
        step: from the number of levels to the width of one level on this scale.
        is_mass: whether it is a probability of integers, without noise.
        is_logit: whether the change of variables depends on the data too.
        who: where it is met.
        source: reference.
    """

    name: str
    formula: str
    step: Callable[[int], float]
    who: str
    source: str
    is_mass: bool = False
    is_logit: bool = False


CATALOGUE: dict[str, DensityScale] = {
    scale.name: scale
    for scale in (
        DensityScale(
            "integers", "u", lambda _: 1.0, "autoregressive models, discretised logistic: P of the integers",
            "van den Oord et al. 2016, arXiv:1601.06759; Salimans et al. 2017, arXiv:1701.05517", is_mass=True,
        ),
        DensityScale("[0,256)", "u + noise", lambda _: 1.0, "densities of dequantised integers", "Theis et al. 2016, arXiv:1511.01844"),
        DensityScale("/256", "(u + noise) / 256, on [0, 1]", lambda n: 1.0 / n, "calibrae; flows", "Uria et al. 2013, arXiv:1306.0186"),
        DensityScale("/255", "(u + noise) / 255, or ToTensor's u / 255", lambda n: 1.0 / (n - 1), "torchvision's ToTensor", "torchvision, ToTensor"),
        DensityScale("[-.5,.5]", "(u + noise) / 256 - 1/2", lambda n: 1.0 / n, "Glow", "Kingma and Dhariwal 2018, arXiv:1807.03039"),
        DensityScale("[-1,1]", "2 u / 255 - 1", lambda n: 2.0 / (n - 1), "Normalize(.5, .5) after ToTensor; diffusion models", "Ho et al. 2020, arXiv:2006.11239"),
        DensityScale("[-1,1)", "2 (u + noise) / 256 - 1", lambda n: 2.0 / n, "dequantised data on [-1, 1)", "Theis et al. 2016, arXiv:1511.01844"),
        DensityScale(
            "logit", "logit(alpha + (1 - 2 alpha) (u + noise) / 256)", lambda n: 1.0 / n, "RealNVP, MAF",
            "Dinh et al. 2017, arXiv:1605.08803; Papamakarios et al. 2017, arXiv:1705.07057", is_logit=True,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reported:
    """A reported number on every scale.

    Attributes:
        levels_nats: NLL of an example on the scale of levels, nats: at least that of the integers.
        nats: NLL of an example on each scale that needs no data, nats.
        bits_per_dim: bits per dimension of the integers; `None` where the number does not tell.
        sentence: meaning of the number, in a sentence.
    """

    levels_nats: float
    nats: Mapping[str, float]
    bits_per_dim: float | None
    sentence: str


def formula_of(scale: DensityScale, levels: int) -> str:
    """Formula of a scale for another number of levels than 256.

    Examples:
        >>> formula_of(CATALOGUE["[-1,1]"], 17)
        '2 u / 16 - 1'
    """
    return scale.formula.replace("256", str(levels)).replace("255", str(levels - 1))


def find_scale(name: str) -> DensityScale:
    """A scale by its name.

    Raises:
        ArgumentError: if there is none.
    """
    if name not in CATALOGUE:
        raise ArgumentError(f"the scale must be one of {', '.join(CATALOGUE)}; got {name!r}.")
    return CATALOGUE[name]


def convert_likelihood(
    value: float,
    scale: str,
    *,
    data_dim: int,
    unit: str = "nats",
    levels: int = 256,
    dequantised: bool = True,
    alpha: float | None = None,
    logit_term: float | None = None,
) -> Reported:
    r"""Read a reported negative log-likelihood of integer data, and give it on every other scale.

    Args:
        value: NLL, or `-ELBO`, as it is reported.
        scale: name in `CATALOGUE`.
        data_dim: `D`.
        unit: `nats` or `bits` of an example, `nats-per-dim` or `bits-per-dim`.
        levels: number of integer values.
        dequantised: whether uniform noise of one level was added. A density at the integers themselves bounds nothing.
        alpha: $\alpha$ of the logit.
        logit_term: mean over examples and dimensions of $\log p (1 - p)$, nats, with $p = \alpha + (1 - 2 \alpha) y$, of the logit.

    Raises:
        ArgumentError: for an unknown scale or unit, or a number out of range.

    Examples:
        >>> found = convert_likelihood(-2676.1, "/256", data_dim=3072)
        >>> round(found.bits_per_dim, 3), round(found.nats["[-1,1)"], 1)
        (6.743, -546.8)
        >>> round(convert_likelihood(3.35, "integers", data_dim=3072, unit="bits-per-dim").nats["/256"], 1)
        -9901.5
    """
    known = find_scale(scale)
    _require(data_dim, levels, unit)
    per_example = value * (data_dim if unit.endswith("per-dim") else 1) * (LOG_2 if unit.startswith("bits") else 1.0)
    log_step = math.log(known.step(levels))
    if known.is_logit:
        log_step += _logit_term(alpha, logit_term)
    on_levels = per_example - data_dim * log_step
    nats = {
        name: on_levels + data_dim * math.log(other.step(levels))
        for name, other in CATALOGUE.items()
        if not other.is_logit
    }
    if not (dequantised or known.is_mass):
        nats.pop("integers")
        return Reported(
            on_levels, nats, None,
            "A density at the integers themselves bounds no probability: it grows without end as sigma falls, so there are no bits per "
            "dimension, and it must not be compared with numbers of dequantised data.",
        )  # fmt: skip
    bits = on_levels / (data_dim * LOG_2)
    bound = "the probability of the integers" if known.is_mass else "an upper bound on what the integers cost"
    impossible = " A number below 0 bits is not possible: check the scale and the unit." if bits < 0 else ""
    return Reported(on_levels, nats, bits, f"{bits:.4g} bits per dimension: {bound}.{impossible}")


def _require(data_dim: int, levels: int, unit: str) -> None:
    if data_dim < 1 or levels < 2:
        raise ArgumentError(f"`data_dim` must be positive and `levels` at least 2; got {data_dim} and {levels}.")
    if unit not in UNITS:
        raise ArgumentError(f"the unit must be one of {', '.join(UNITS)}; got {unit!r}.")


def _logit_term(alpha: float | None, logit_term: float | None) -> float:
    r"""Mean of $\log dx/dy$ over the dimensions, but for the width of a level: $\log(1 - 2\alpha) - \log p(1 - p)$."""
    if alpha is None or logit_term is None or not 0.0 <= alpha < 0.5:
        raise ArgumentError(
            "a density of logits depends on the data: `alpha` in [0, 0.5) and the mean of log p (1 - p) are needed (--alpha, and --data "
            f"or --logit-term); got {alpha} and {logit_term}."
        )
    return math.log(1.0 - 2.0 * alpha) - logit_term
