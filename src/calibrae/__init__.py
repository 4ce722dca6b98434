"""calibrae: variational autoencoders whose objective is exact and whose numbers can be compared.

Nothing is imported before it is used, so `import calibrae` and `calibrae --help` cost next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import audit as audit
    from . import functional as functional
    from .data import DataOptions as DataOptions
    from .latents import DiagonalGaussianPosterior as DiagonalGaussianPosterior
    from .latents import PointPosterior as PointPosterior
    from .latents import StandardNormalPrior as StandardNormalPrior
    from .likelihoods import BernoulliLikelihood as BernoulliLikelihood
    from .likelihoods import GaussianLikelihood as GaussianLikelihood
    from .models import VAE as VAE
    from .models import build as build
    from .models import calibrate_sigma as calibrate_sigma
    from .networks import NetworkOptions as NetworkOptions
    from .objectives import BetaELBO as BetaELBO
    from .workflows import Run as Run
    from .workflows import diagnose as diagnose
    from .workflows import evaluate as evaluate
    from .workflows import evaluate_full as evaluate_full
    from .workflows import fit as fit
    from .workflows import load as load
    from .workflows import score as score
    from .workflows import sweep as sweep

_HOME = {
    "audit": "",
    "functional": "",
    "BernoulliLikelihood": "likelihoods",
    "GaussianLikelihood": "likelihoods",
    "DiagonalGaussianPosterior": "latents",
    "PointPosterior": "latents",
    "StandardNormalPrior": "latents",
    "VAE": "models",
    "build": "models",
    "calibrate_sigma": "models",
    "DataOptions": "data",
    "Run": "workflows",
    "diagnose": "workflows",
    "evaluate": "workflows",
    "evaluate_full": "workflows",
    "fit": "workflows",
    "load": "workflows",
    "score": "workflows",
    "sweep": "workflows",
    "NetworkOptions": "networks",
    "BetaELBO": "objectives",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'calibrae' has no attribute {name!r}")
    home = _HOME[name]
    value = (
        getattr(importlib.import_module(f".{home}", __name__), name)
        if home
        else importlib.import_module(f".{name}", __name__)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
