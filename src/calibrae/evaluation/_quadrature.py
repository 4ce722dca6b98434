"""Exact `log p(x)` of models with one or two latents, by adaptive quadrature."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..acceleration import WITHOUT_DOUBLE
from ..errors import ArgumentError, NoDensityError
from ..models import VAE, evaluating, mean_of, sample_latents
from ..objectives import NO_PRIOR

ORDER = 10  # nodes on a side of a cell
FIRST_CELLS = {
    1: 64,
    2: 16,
}  # on a side; divisible by 4, so that a region of twice the sides is cut at the edge of the smaller
DEEPEST = 24  # halvings
POINTS_AT_ONCE = 1 << 15
TOGETHER = 16  # examples whose integrals share their cells
SAMPLES = 4096  # of the prior, that tell where it is
MARGIN = 6.5  # standard deviations beyond the outermost sample
ENLARGEMENTS = 6  # of the cube, each by two
PRIOR_CELLS = 25_000  # that may be needed to find a prior
PRIOR_MASS = 1e-9  # of the prior that may lie around the cube, within one of twice the sides
WHOLE_WITHIN = 1e-5  # of 1, that a prior must integrate to

LogDensity = Callable[[Tensor], Tensor]
Rule = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Cells:
    """Cubes with a centre `[n, d]` and half a side `[n, d]`."""

    centre: Tensor
    half: Tensor

    def __getitem__(self, chosen: Tensor) -> _Cells:
        return _Cells(self.centre[chosen], self.half[chosen])

    def halved(self) -> _Cells:
        """The `2^d` children of each, `[n * 2^d]`, a parent's together."""
        signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=self.centre.shape[1])), dtype=torch.float64)
        half = 0.5 * self.half
        centre = self.centre[:, None] + half[:, None] * signs
        return _Cells(centre.flatten(0, 1), half.repeat_interleave(len(signs), 0))


@dataclass(frozen=True)
class _Box:
    """Region that is integrated over, with a middle and half the sides, `[d]`."""

    middle: Tensor
    half: Tensor

    def enlarged(self) -> _Box:
        """A box of twice the sides."""
        return _Box(self.middle, 2.0 * self.half)

    def cells(self) -> _Cells:
        """The first cells of the region."""
        latent_dim = len(self.middle)
        count = FIRST_CELLS[latent_dim]
        edges = torch.linspace(-1.0 + 1.0 / count, 1.0 - 1.0 / count, count, dtype=torch.float64)
        grid = torch.cartesian_prod(*[edges] * latent_dim).reshape(-1, latent_dim)
        return _Cells(self.middle + self.half * grid, (self.half / count).expand(len(grid), -1))

    def reaching(self, peaks: tuple[Tensor, Tensor] | None) -> _Box:
        """A box that also holds the posteriors."""
        if peaks is None:
            return self
        mean, std = peaks
        return _Box(self.middle, torch.maximum(self.half, ((mean - self.middle).abs() + MARGIN * std).amax(0)))

    def holds(self, cells: _Cells) -> Tensor:
        """True for the cells that lie inside."""
        return ((cells.centre - self.middle).abs() < self.half).all(1)


def quadrature_log_likelihood(
    model: VAE, x: Tensor, context: Tensor | None = None, *, tolerance: float = 1e-8
) -> Tensor:
    r"""Compute $\log p(x) = \log \int p(x|z)\, p(z)\, dz$ of each example by adaptive Gauss-Legendre cubature in float64.

    The region is found from samples of the prior and from the posterior, so it does not matter where the prior lies. It is cut into
    cells; each is halved along every side until its integral, by a rule of Lobatto's, and the sum of its children's agree within
    `tolerance` of the whole. The cells around the posterior mean are halved down to its standard deviation whatever they say, so that no narrow peak is missed
    between the nodes. The region is enlarged until what lies around it holds less than 1e-9 of the prior, and until what lies around it adds less than
    `tolerance` to the integral.

    Args:
        model: with one or two latents, a density and a fixed scale; any decoder, prior and posterior. It is copied to float64.
        x: `[B, *data]`, as the model sees them.
        context: `[B, context_dim]`, for a conditional model.
        tolerance: largest error of each example's integral, relative, as estimated.

    Returns:
        `[B]`, nats, float64.

    Raises:
        ArgumentError: if there are more than two latents, for which no grid is fine enough; or if the mass of the prior cannot be found.

    Examples:
        >>> from calibrae import functional
        >>> from calibrae.evaluation import linear_vae_at_ppca
        >>> ppca = functional.PPCA(torch.zeros(2), torch.eye(2)[:, :1], torch.tensor([4.0]), 1.0)
        >>> x = torch.ones(1, 2)
        >>> exact = functional.ppca_log_likelihood(ppca, x).double()
        >>> torch.allclose(quadrature_log_likelihood(linear_vae_at_ppca(ppca, (2,)), x), exact)
        True
    """
    if model.latent_dim not in FIRST_CELLS:
        raise ArgumentError(
            f"quadrature needs one or two latents; got {model.latent_dim}. Take `annealed_importance` or an importance-weighted bound."
        )
    exact = copy.deepcopy(model)
    exact = (exact.cpu() if exact.device.type in WITHOUT_DOUBLE else exact).double()
    with evaluating(exact):
        x = x.to(exact.device, torch.float64)
        if context is None:
            box = _box_of(exact, None)
            groups: list[tuple[Tensor, Tensor | None, _Box]] = [(part, None, box) for part in x.split(TOGETHER)]
        else:  # every example has a prior and a decoder of its own
            context = context.to(exact.device, torch.float64)
            groups = [(x[i : i + 1], context[i : i + 1], _box_of(exact, context[i : i + 1])) for i in range(len(x))]
        return torch.cat([_log_likelihoods(exact, *group, tolerance) for group in groups]).cpu()


def _log_likelihoods(model: VAE, x: Tensor, context: Tensor | None, box: _Box, tolerance: float) -> Tensor:
    """`log p(x)` of a few examples with one context, `[E]`: the decoder is evaluated once for all of them."""
    peaks = _peaks(model, x, context)
    box = box.reaching(peaks)
    log_prior = _log_prior(model, context)

    def log_joint(z: Tensor) -> Tensor:
        px = model.decode(z.to(x), None if context is None else context.expand(len(z), -1))
        return log_prior(z) + torch.stack([px.log_prob(one).cpu() for one in x])

    total = _log_integrals(log_joint, box.cells(), peaks, tolerance)
    for _ in range(ENLARGEMENTS):
        larger = box.enlarged()
        around = larger.cells()
        rest = _log_integrals(log_joint, around[~box.holds(around)], peaks, tolerance, beside=total)
        grown = torch.logaddexp(total, rest)
        if float((grown - total).max()) <= tolerance:
            return grown
        box, total = larger, grown
    raise ArgumentError(
        "the mass of p(x, z) could not be found: it still grew after its region had been enlarged 64 times. Take `annealed_importance`."
    )


def _log_prior(model: VAE, context: Tensor | None) -> LogDensity:
    """`log p(z)` of points `[n, d]`, `[n]`."""
    p = model.prior_for(context, 1)
    if p is None:
        raise NoDensityError(NO_PRIOR)

    def log_prior(z: Tensor) -> Tensor:
        z = z.to(model.device)
        found: Tensor = p.log_prob(z[:, None])[:, 0] if p.batch_shape else p.log_prob(z)
        return found.cpu().double()

    return log_prior


def _box_of(model: VAE, context: Tensor | None) -> _Box:
    """Region that holds a prior: what lies around it, within twice the sides, has less than 1e-9 of its mass.

    Raises:
        ArgumentError: if the prior's tails are too heavy for that, or it is no density.
    """
    p, log_prior = model.prior_for(context, 1), _log_prior(model, context)
    assert p is not None
    drawn = sample_latents(p, SAMPLES, model.device, torch.Generator().manual_seed(0)).reshape(SAMPLES, -1)
    z = drawn.cpu().double()
    low, high = z.amin(0), z.amax(0)
    box = _Box(0.5 * (low + high), 0.5 * (high - low) + MARGIN * z.std(0))
    whole = torch.zeros(1, dtype=torch.float64)  # log 1: errors of what lies around are relative to the whole prior

    def share(cells: _Cells, tolerance: float) -> float:
        found = _log_integrals(lambda z: log_prior(z)[None], cells, None, tolerance, beside=whole, most=PRIOR_CELLS)
        return math.exp(float(found))

    try:
        for _ in range(ENLARGEMENTS):
            around = box.enlarged().cells()
            if share(around[~box.holds(around)], PRIOR_MASS / 10.0) <= PRIOR_MASS:
                break
            box = box.enlarged()
        else:
            raise ArgumentError(_TAILS)
        mass = share(box.cells(), WHOLE_WITHIN / 100.0)
    except _TooFineError:
        raise ArgumentError(_TAILS) from None
    if abs(mass - 1.0) > WHOLE_WITHIN:
        raise ArgumentError(
            f"the prior must integrate to 1; got {mass:.6f}. Normalise it; `cb.testing.check_prior` compares it with its samples."
        )
    return box


_TAILS = (
    f"quadrature needs a region outside which a prior has a mass of {PRIOR_MASS:g} at most, and found none: its tails are too heavy. Take "
    "`annealed_importance` or an importance-weighted bound."
)


class _TooFineError(ArgumentError):
    """An integrand needs more cells than there may be."""


def _peaks(model: VAE, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Means and standard deviations of the posteriors, `[E, d]` each, if they can tell them."""
    q = model.encode(x, context)
    try:
        return mean_of(q).cpu(), q.stddev.cpu()
    except (NotImplementedError, ArgumentError):
        return None


def _log_integrals(
    log_density: LogDensity,
    cells: _Cells,
    peaks: tuple[Tensor, Tensor] | None,
    tolerance: float,
    beside: Tensor | None = None,
    most: float = math.inf,
) -> Tensor:
    """Logarithms of the integrals over some cells, `[E]`; errors are relative to them and to what lies `beside`, `[E]`.

    Raises:
        ArgumentError: if more than `most` cells would be needed, or they were halved too often.
    """
    dims = cells.centre.shape[1]
    done: list[Tensor] = []
    count = 0
    for _ in range(DEEPEST):
        count += len(cells.half)
        if count > most:
            break
        children = cells.halved()
        # by a rule with nodes at the edges: a bend between an edge and the first inner node would escape parents and children alike
        logs, finer = _log_cells(log_density, cells, _lobatto(ORDER)), _log_cells(log_density, children, _gauss(ORDER))
        sums = finer.unflatten(1, (len(cells.half), -1)).logsumexp(2)
        known = [*done, sums] if beside is None else [*done, sums, beside[:, None]]
        total = torch.cat(known, 1).logsumexp(1, keepdim=True)
        change = ((logs - total).exp() - (sums - total).exp()).abs()
        # the error of children is far below the change that they bring; what all cells leave adds up
        open_ = (change > tolerance / math.sqrt(change.shape[1])).any(0)
        if peaks is not None:
            open_ = open_ | _around(cells, *peaks)
        done.append(sums[:, ~open_])
        if not bool(open_.any()):
            return torch.cat(done, 1).logsumexp(1)
        keep = open_.repeat_interleave(2**dims)
        cells = children[keep]
    raise _TooFineError(
        "p(x|z) varies too fast in z for quadrature: its cells were halved 24 times. Take `annealed_importance` instead."
    )


def _around(cells: _Cells, mean: Tensor, std: Tensor) -> Tensor:
    """True for the cells that are within three standard deviations of a posterior mean and wider than one."""
    distance = (cells.centre[:, None] - mean).abs()
    near = (distance <= cells.half[:, None] + 3.0 * std).all(2)
    found: Tensor = (near & (cells.half[:, None] > std).any(2)).any(1)
    return found


def _gauss(order: int) -> Rule:
    """Nodes and weights of Gauss and Legendre on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


def _lobatto(order: int) -> Rule:
    """Nodes and weights of Gauss and Lobatto on [-1, 1], which have the ends among the nodes."""
    polynomial = np.polynomial.legendre.Legendre.basis(order - 1)
    nodes = np.concatenate([[-1.0], np.sort(polynomial.deriv().roots().real), [1.0]])
    return torch.from_numpy(nodes), torch.from_numpy(2.0 / (order * (order - 1) * polynomial(nodes) ** 2))


def _log_cells(log_density: LogDensity, cells: _Cells, rule: Rule) -> Tensor:
    """Logarithm of the integral over each cell by a rule, `[E, cells]`."""
    latent_dim, (nodes, weights) = cells.centre.shape[1], rule
    grid = torch.cartesian_prod(*[nodes] * latent_dim).reshape(-1, latent_dim)
    weight = torch.cartesian_prod(*[weights] * latent_dim).reshape(-1, latent_dim).log().sum(1)
    z = (cells.centre[:, None] + cells.half[:, None] * grid).flatten(0, 1)
    density = torch.cat([log_density(part).double() for part in z.split(POINTS_AT_ONCE)], 1)
    logs: Tensor = (density.unflatten(1, (len(cells.half), -1)) + weight).logsumexp(2) + cells.half.log().sum(1)
    return logs
