"""Pure mathematics: tensors in, tensors out. Nats; nothing reduced, dropped or broadcast silently."""

from . import conventions as conventions
from ._bounds import bits_per_dim as bits_per_dim
from ._bounds import importance_bound as importance_bound
from ._divergence import kl_diagonal_gaussian as kl_diagonal_gaussian
from ._divergence import kl_standard_normal as kl_standard_normal
from ._divergence import log_density_ratio as log_density_ratio
from ._ppca import PPCA as PPCA
from ._ppca import ppca as ppca
from ._ppca import ppca_log_likelihood as ppca_log_likelihood
from ._ppca import spectrum as spectrum
from ._rate import ACTIVE_ABOVE as ACTIVE_ABOVE
from ._rate import LinearCode as LinearCode
from ._rate import active_latents as active_latents
from ._rate import linear_code as linear_code
from ._reconstruction import bernoulli_nll as bernoulli_nll
from ._reconstruction import bernoulli_nll_sum as bernoulli_nll_sum
from ._reconstruction import gaussian_nll as gaussian_nll
from ._reconstruction import gaussian_nll_of_sse as gaussian_nll_of_sse
from ._reconstruction import mse as mse
from ._reconstruction import sse as sse
from ._sigma import lower_bound as lower_bound
from ._sigma import optimal_sigma as optimal_sigma
from ._sigma import quantisation_floor as quantisation_floor
from ._sigma import shared_dims as shared_dims
from .conventions import beta_from_convention as beta_from_convention
from .conventions import beta_in_conventions as beta_in_conventions
