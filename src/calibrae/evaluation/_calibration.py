"""Calibration of a likelihood on data that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from .._types import Batch
from ..errors import ArgumentError
from ..functional import jackknife_error
from ..likelihoods import elements_of
from ..models import VAE, evaluating, seeded

LEVELS = (0.5, 0.9, 0.95)
BINS = 1000  # of the PIT: its KS distance is exact to 1 / BINS
DECILES = 10
BLOCKS = 50  # of examples, left out in turn for the standard errors
MOST_CHANNELS = 32
NUMBERS_AT_ONCE = 1 << 20
RIGHT_WITHIN = 0.05  # of a sigma
UNIFORM_WITHIN = 0.05  # KS distance
SURE, SURE_OF_KS = 3.0, 2.0  # standard errors beyond these, before anything is said; that of the distance is too large
NORMAL_KURTOSIS = 3.0


@dataclass(frozen=True, slots=True)
class Residuals:
    r"""Standardised residuals $r = (x - \hat x(z)) / \sigma$, $z \sim q(z|x)$, of some elements of all examples.

    Attributes:
        name: group of elements.
        count: number of residuals.
        mean: their mean; 0 if the decoder is unbiased.
        spread: their root mean square; 1 if sigma is right, more if it is too small.
        kurtosis: fourth moment over the squared second; 3 for a Gaussian, 6 for a Laplace density.
        coverage: share within the central intervals of 50, 90 and 95 % of `p(x|z)`.
        pit: histogram of the probability integral transform $F(x|z)$ in ten bins, as shares; flat if all is well.
        ks: largest distance of the PIT's distribution from the uniform one (Kolmogorov and Smirnov), 0 to 1.
        standard_errors: standard errors of all these by name, over examples, whose residuals may depend on each other (a jackknife of 50 blocks);
            empty for a single example. That of `ks` is too large, up to twice, where the distance is near 0.
    """

    name: str
    count: int
    mean: float
    spread: float
    kurtosis: float
    coverage: dict[str, float]
    pit: list[float]
    ks: float
    standard_errors: dict[str, Any] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Tell whether sigma is within 5 % of the spread of the residuals, as far as so many examples can tell."""
        return abs(self.spread - 1.0) <= RIGHT_WITHIN + SURE * float(self.standard_errors.get("spread", 0.0))

    @property
    def has_right_shape(self) -> bool:
        """Tell whether the probability integral transform is within 0.05 of a uniform one, as far as so many examples can tell."""
        return self.ks <= UNIFORM_WITHIN + SURE_OF_KS * float(self.standard_errors.get("ks", 0.0))


@dataclass(frozen=True)
class Calibration:
    """Tell whether the decoder's density describes the residuals.

    Attributes:
        overall: residuals of all elements.
        by_channel: residuals of each channel, where the data have 2 to 32.
        by_sigma: residuals of the elements by decile of their sigma, smallest first; empty unless each element has its own, which all
            examples share.
        element_spread: root mean square residual of each element, in sigmas, `[*data]`.
        density: name of the density, such as Normal.
    """

    overall: Residuals
    by_channel: list[Residuals]
    by_sigma: list[Residuals]
    element_spread: Tensor
    density: str = "Normal"

    @property
    def sentence(self) -> str:
        """Verdict on sigma, in plain words."""
        return calibration_sentence(self.overall, self.element_spread, self.density)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON; only quantiles of the elements."""
        quantiles = torch.quantile(self.element_spread.flatten(), torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64))
        return {
            "overall": asdict(self.overall),
            "by_channel": [asdict(r) for r in self.by_channel],
            "by_sigma": [asdict(r) for r in self.by_sigma],
            "element_spread_quantiles": dict(zip(("0.05", "0.5", "0.95"), quantiles.tolist(), strict=True)),
            "sentence": self.sentence,
        }


def calibration(
    model: VAE,
    batches: Iterable[Batch],
    noise: Callable[[Tensor], Tensor],
    step: Callable[[int], None] | None = None,
    *,
    seed: int = 0,
) -> Calibration:
    """Standardised residuals of a data set: spread, coverage and probability integral transform.

    Args:
        model: with a density of independent elements given `z` that has a distribution function, and a fixed scale.
        batches: examples with their positions; not those that the scale was fitted to.
        noise: from positions to standard normal noise `[B, d]`, for one sample of `z` each.
        step: called with the size of each batch, for a progress bar.
        seed: seed of a posterior that draws its samples itself.

    Raises:
        ArgumentError: if the likelihood is no density, or its elements are not independent or have no distribution function.
        ScaleNotFixedError: if an optimal scale was not fixed.

    References:
        Gneiting, Balabdaoui & Raftery 2007, https://doi.org/10.1111/j.1467-9868.2007.00587.x
    """
    if not model.likelihood.is_density:
        raise ArgumentError("calibration is about the scale of a density, and this likelihood gives probabilities.")
    sums: _Sums | None = None
    with evaluating(model), seeded(torch.Generator().manual_seed(seed), model.device):
        for batch in batches:
            batch = batch.to(model.device)
            assert batch.index is not None
            px = model.draw(batch, eps=noise(batch.index).to(batch.x)[None]).px
            elements = elements_of(px)
            if elements is None:
                raise ArgumentError(f"calibration needs independent elements given z; got a {type(px).__name__}.")
            try:
                pit = elements.cdf(batch.x)[0]
                residuals = ((batch.x - elements.mean) / elements.stddev)[0]
            except NotImplementedError:
                name = type(elements).__name__
                raise ArgumentError(f"calibration needs a distribution function, and a {name} has none.") from None
            if sums is None:
                shared = None if model.likelihood.scale is None else elements.stddev[0, 0].cpu()
                sums = _Sums.of(batch.x[0].shape, shared, type(elements).__name__)
            sums.add(residuals.cpu(), pit.cpu())
            if step is not None:
                step(len(batch))
    if sums is None:
        raise ArgumentError("calibration needs examples; got none.")
    return sums.result()


class _Sums:
    """Running sums of each element, and of each group of elements in each block of examples."""

    def __init__(self, names: list[str], groups: list[Tensor], density: str) -> None:
        self.names = names
        self.density = density
        self.masks = torch.stack(groups).flatten(1)
        self.weights = self.masks.double().T
        self.squares = torch.zeros(groups[0].shape, dtype=torch.float64)
        self.examples = torch.zeros(BLOCKS, dtype=torch.float64)
        self.sums = torch.zeros(BLOCKS, len(groups), 3 + len(LEVELS), dtype=torch.float64)
        self.histogram = torch.zeros(BLOCKS, len(groups), BINS, dtype=torch.float64)

    @classmethod
    def of(cls, shape: torch.Size, sigma: Tensor | None, density: str) -> _Sums:
        """Groups for data of a shape: all, each channel, each decile of sigma if all examples share it."""
        groups = {"all": torch.ones(shape, dtype=torch.bool)}
        if len(shape) > 1 and 1 < shape[0] <= MOST_CHANNELS:
            for channel in range(shape[0]):
                mask = torch.zeros(shape, dtype=torch.bool)
                mask[channel] = True
                groups[f"channel {channel}"] = mask
        if sigma is not None and len(sigma.unique()) >= DECILES:
            order = sigma.flatten().argsort().argsort().reshape(shape)
            for decile in range(DECILES):
                groups[f"sigma decile {decile + 1}"] = order * DECILES // sigma.numel() == decile
        return cls(list(groups), list(groups.values()), density)

    def add(self, residuals: Tensor, pit: Tensor) -> None:
        """Add a batch, `[B, *data]` each."""
        rows = max(1, NUMBERS_AT_ONCE // residuals[0].numel())
        for parts in zip(residuals.flatten(1).split(rows), pit.flatten(1).split(rows), strict=True):
            self._add(*parts)

    def _add(self, residuals: Tensor, pit: Tensor) -> None:
        """Add a few examples, `[b, elements]` each."""
        block = (int(self.examples.sum()) + torch.arange(len(residuals))) % BLOCKS
        self.examples += torch.bincount(block, minlength=BLOCKS)
        wide = residuals.double()
        square = wide.square()
        self.squares += square.sum(0).reshape(self.squares.shape)
        inside = (((pit - 0.5).abs() <= 0.5 * level).double() for level in LEVELS)
        for i, values in enumerate((wide, square, square.square(), *inside)):
            self.sums[..., i].index_add_(0, block, values @ self.weights)
        bins = (pit * BINS).long().clamp_(0, BINS - 1) + BINS * block[:, None]
        for i, mask in enumerate(self.masks):
            self.histogram[:, i] += torch.bincount(bins[:, mask].flatten(), minlength=BLOCKS * BINS).reshape(BLOCKS, -1)

    def result(self) -> Calibration:
        """Build the result from the sums."""
        found = [self._residuals(i) for i in range(len(self.names))]
        return Calibration(
            overall=found[0],
            by_channel=[r for r in found if r.name.startswith("channel")],
            by_sigma=[r for r in found if r.name.startswith("sigma")],
            element_spread=(self.squares / self.examples.sum()).sqrt(),
            density=self.density,
        )

    def _residuals(self, index: int) -> Residuals:
        counts = self.examples * int(self.masks[index].sum())
        sums, histogram, used = self.sums[:, index], self.histogram[:, index], self.examples > 0
        total = _statistics(counts.sum(), sums.sum(0), histogram.sum(0))
        without = _statistics(
            (counts.sum() - counts[used])[:, None], sums.sum(0) - sums[used], histogram.sum(0) - histogram[used]
        )
        errors: dict[str, Any] = (
            {name: jackknife_error(values).tolist() for name, values in without.items()} if used.sum() > 1 else {}
        )
        if errors:
            errors["coverage"] = _by_level(errors["coverage"])
        return Residuals(
            name=self.names[index],
            count=int(counts.sum()),
            mean=float(total["mean"]),
            spread=float(total["spread"]),
            kurtosis=float(total["kurtosis"]),
            coverage=_by_level(total["coverage"].tolist()),
            pit=total["pit"].tolist(),
            ks=float(total["ks"]),
            standard_errors=errors,
        )


def _by_level(values: Iterable[float]) -> dict[str, float]:
    return dict(zip((f"{p:g}" for p in LEVELS), values, strict=True))


def _statistics(count: Tensor, sums: Tensor, histogram: Tensor) -> dict[str, Tensor]:
    """Statistics of residuals, from their number `[..., 1]`, their sums `[..., 3 + levels]` and their PIT `[..., BINS]`."""
    first, second, fourth = (sums / count)[..., :3].unbind(-1)
    shares = histogram / count
    uniform = torch.arange(1, BINS + 1, dtype=torch.float64) / BINS
    return {
        "mean": first,
        "spread": second.sqrt(),
        "kurtosis": fourth / second.square(),
        "coverage": (sums / count)[..., 3:],
        "pit": shares.unflatten(-1, (10, -1)).sum(-1),
        "ks": (shares.cumsum(-1) - uniform).abs().amax(-1),
    }


def calibration_sentence(overall: Residuals, element_spread: Tensor, density: str = "Normal") -> str:
    """Say in plain words what the residuals tell about sigma."""
    covers = f"the 90 % interval holds {100 * overall.coverage['0.9']:.1f} % of the data"
    if overall.is_right:
        first = f"Sigma is right: residuals spread by {overall.spread:.3f} sigma, and {covers}."
    elif overall.spread > 1.0:
        first = f"Sigma is too small: residuals spread by {overall.spread:.2f} sigma, and {covers}."
    else:
        first = f"Sigma is too large: residuals spread by {overall.spread:.2f} sigma only, and {covers}."
    if overall.has_right_shape:
        return first
    low, high = torch.quantile(element_spread.flatten(), torch.tensor([0.05, 0.95], dtype=torch.float64)).tolist()
    name = {"Normal": "Gaussian"}.get(density, density)
    if density == "Normal" and overall.kurtosis > NORMAL_KURTOSIS:
        shape = (
            f"They are not Gaussian: many are small and a few large (kurtosis {overall.kurtosis:.1f}, a Gaussian has 3)"
        )
    else:
        shape = f"They are not {name} (Kolmogorov-Smirnov distance {overall.ks:.2f})"
    return f"{first} {shape}; from element to element the spread goes from {low:.2f} to {high:.2f} sigma."
