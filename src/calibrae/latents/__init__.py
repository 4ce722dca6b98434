"""Posteriors `q(z|x)` and priors `p(z)`: heads that return distributions over the latents, and their divergences."""

from ._distributions import Delta as Delta
from ._distributions import DiagonalGaussian as DiagonalGaussian
from ._distributions import StandardNormal as StandardNormal
from ._distributions import exact_kl as exact_kl
from ._distributions import factors_of as factors_of
from ._distributions import kl as kl
from ._distributions import kl_per_dimension as kl_per_dimension
from ._distributions import log_prob_of as log_prob_of
from ._distributions import log_std_of as log_std_of
from ._distributions import reparameterise as reparameterise
from ._distributions import require_event as require_event
from ._posteriors import Features as Features
from ._posteriors import GaussianPosterior as GaussianPosterior
from ._posteriors import PointPosterior as PointPosterior
from ._posteriors import Posterior as Posterior
from ._posteriors import widened_features as widened_features
from ._priors import ConditionalGaussianPrior as ConditionalGaussianPrior
from ._priors import DistributionPrior as DistributionPrior
from ._priors import MixturePrior as MixturePrior
from ._priors import NoPrior as NoPrior
from ._priors import Prior as Prior
from ._priors import StandardNormalPrior as StandardNormalPrior
