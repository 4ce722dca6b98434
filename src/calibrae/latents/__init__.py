"""Posteriors `q(z|x)` and priors `p(z)`: numbers per example and latent dimension, `[B, d]`."""

from ._posteriors import AbstractPosterior as AbstractPosterior
from ._posteriors import DiagonalGaussianPosterior as DiagonalGaussianPosterior
from ._posteriors import PointPosterior as PointPosterior
from ._posteriors import require_density as require_density
from ._posteriors import standard_normal_noise as standard_normal_noise
from ._priors import AbstractPrior as AbstractPrior
from ._priors import StandardNormalPrior as StandardNormalPrior
