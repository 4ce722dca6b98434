"""Decoder outputs as `p(x|z)`: one number per example, `[B]`, in nats."""

from ._base import AbstractConditional as AbstractConditional
from ._base import AbstractLikelihood as AbstractLikelihood
from ._bernoulli import BernoulliConditional as BernoulliConditional
from ._bernoulli import BernoulliLikelihood as BernoulliLikelihood
from ._gaussian import GaussianConditional as GaussianConditional
from ._gaussian import GaussianLikelihood as GaussianLikelihood
from ._sigma import AbstractSigma as AbstractSigma
from ._sigma import LearnedSigma as LearnedSigma
from ._sigma import ManualSigma as ManualSigma
from ._sigma import OptimalSigma as OptimalSigma
