"""Decoder outputs as `p(x|z)`: heads that return `torch.distributions.Distribution`."""

from .._types import ColumnModel as ColumnModel
from ._base import InputLayer as InputLayer
from ._base import Likelihood as Likelihood
from ._bernoulli import BernoulliLikelihood as BernoulliLikelihood
from ._distributions import elements_of as elements_of
from ._distributions import is_split as is_split
from ._distributions import mean_of_data as mean_of_data
from ._distributions import nll_per_element as nll_per_element
from ._distributions import squared_error as squared_error
from ._gaussian import GaussianLikelihood as GaussianLikelihood
from ._gaussian import HeteroscedasticGaussianLikelihood as HeteroscedasticGaussianLikelihood
from ._laplace import LaplaceLikelihood as LaplaceLikelihood
from ._scale import MEAN_ABSOLUTE as MEAN_ABSOLUTE
from ._scale import ROOT_MEAN_SQUARE as ROOT_MEAN_SQUARE
from ._scale import Scale as Scale
from ._scale import Statistic as Statistic
from .mixed import MixedLikelihood as MixedLikelihood
from .mixed import MixedRow as MixedRow
