r"""Meaning of a beta: other people's loss scales, and ours.

Write any loss per example as $a R + b\,\mathrm{KL}$ with a reconstruction term $R$ and the KL summed over the latents. Only
$b/a$ moves the optimum: for a squared error it is $\rho = 2\sigma^2\beta$, the squared error that the model accepts to save
one nat; for a density (Gaussian NLL, Bernoulli, categorical) it is beta itself; for an absolute error the Laplace scale at
beta = 1.

The catalogue is data (`conventions.toml`), read when it is first asked for.

Examples:
    >>> from calibrae.functional import conventions
    >>> found = conventions.translate(0.00025, "mse", data_shape=(3, 64, 64), latent_dim=128)
    >>> round(found.rho, 3), round(found.sigma, 3), round(found.equivalents["half-sse"], 3)
    (3.072, 1.239, 1.536)
"""

from ._canonical import COMMON as COMMON
from ._canonical import beta_from_convention as beta_from_convention
from ._canonical import beta_in_conventions as beta_in_conventions
from ._catalogue import SQUARED as SQUARED
from ._catalogue import Convention as Convention
from ._catalogue import catalogue as catalogue
from ._catalogue import find as find
from ._catalogue import total_variances as total_variances
from ._translate import Translation as Translation
from ._translate import translate as translate
