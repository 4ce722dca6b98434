"""Terms per example, and the scalars that are descended."""

from ._beta import AbstractObjective as AbstractObjective
from ._beta import BetaELBO as BetaELBO
from ._elbo import ELBOTerms as ELBOTerms
from ._elbo import elbo_terms as elbo_terms
