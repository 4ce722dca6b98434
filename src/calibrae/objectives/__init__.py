"""Draws of samples, terms per example, and the losses that training minimises."""

from ._draw import NO_PRIOR as NO_PRIOR
from ._draw import Draw as Draw
from ._elbo import ELBOTerms as ELBOTerms
from ._elbo import elbo_terms as elbo_terms
from ._objectives import IWAE as IWAE
from ._objectives import BetaELBO as BetaELBO
from ._objectives import Objective as Objective
from ._objectives import ReconstructionError as ReconstructionError
from ._objectives import Terms as Terms
from ._objectives import require_terms as require_terms
from ._vae_loss import AuditedLoss as AuditedLoss
from ._vae_loss import vae_loss as vae_loss
