"""calibrae: variational autoencoders whose objective is exact and whose numbers can be compared.

Nothing is imported before it is used, so `import calibrae` and `calibrae --help` cost next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import audit as audit
    from . import evaluation as evaluation
    from . import functional as functional
    from . import latents as latents
    from . import networks as networks
    from . import testing as testing
    from ._progress import watched as watched
    from ._registry import component as component
    from ._types import Batch as Batch
    from ._types import World as World
    from .data import DataOptions as DataOptions
    from .data import load_data as load_data
    from .latents import ConditionalGaussianPrior as ConditionalGaussianPrior
    from .latents import DistributionPrior as DistributionPrior
    from .latents import GaussianPosterior as GaussianPosterior
    from .latents import MixturePrior as MixturePrior
    from .latents import NoPrior as NoPrior
    from .latents import PointPosterior as PointPosterior
    from .latents import Posterior as Posterior
    from .latents import Prior as Prior
    from .latents import StandardNormalPrior as StandardNormalPrior
    from .likelihoods import BernoulliLikelihood as BernoulliLikelihood
    from .likelihoods import ColumnModel as ColumnModel
    from .likelihoods import GaussianLikelihood as GaussianLikelihood
    from .likelihoods import HeteroscedasticGaussianLikelihood as HeteroscedasticGaussianLikelihood
    from .likelihoods import LaplaceLikelihood as LaplaceLikelihood
    from .likelihoods import Likelihood as Likelihood
    from .likelihoods import MixedLikelihood as MixedLikelihood
    from .likelihoods import Scale as Scale
    from .models import VAE as VAE
    from .models import build as build
    from .models import fix_scale as fix_scale
    from .networks import NetworkOptions as NetworkOptions
    from .objectives import IWAE as IWAE
    from .objectives import BetaELBO as BetaELBO
    from .objectives import Draw as Draw
    from .objectives import Objective as Objective
    from .objectives import ReconstructionError as ReconstructionError
    from .objectives import Terms as Terms
    from .training import TrainSettings as TrainSettings
    from .workflows import Run as Run
    from .workflows import TrainRequest as TrainRequest
    from .workflows import compare as compare
    from .workflows import diagnose as diagnose
    from .workflows import evaluate as evaluate
    from .workflows import evaluate_full as evaluate_full
    from .workflows import fidelity as fidelity
    from .workflows import fit as fit
    from .workflows import impute as impute
    from .workflows import load as load
    from .workflows import open_run as open_run
    from .workflows import report as report
    from .workflows import score as score
    from .workflows import sweep as sweep
    from .workflows import synthesise as synthesise
    from .workflows import watch as watch

_HOME = {
    "audit": "",
    "evaluation": "",
    "functional": "",
    "latents": "",
    "networks": "",
    "testing": "",
    "component": "_registry",
    "Batch": "_types",
    "World": "_types",
    "watched": "_progress",
    "BernoulliLikelihood": "likelihoods",
    "GaussianLikelihood": "likelihoods",
    "HeteroscedasticGaussianLikelihood": "likelihoods",
    "LaplaceLikelihood": "likelihoods",
    "Likelihood": "likelihoods",
    "ColumnModel": "likelihoods",
    "MixedLikelihood": "likelihoods",
    "Scale": "likelihoods",
    "ConditionalGaussianPrior": "latents",
    "DistributionPrior": "latents",
    "GaussianPosterior": "latents",
    "MixturePrior": "latents",
    "NoPrior": "latents",
    "PointPosterior": "latents",
    "Posterior": "latents",
    "Prior": "latents",
    "StandardNormalPrior": "latents",
    "BetaELBO": "objectives",
    "Draw": "objectives",
    "IWAE": "objectives",
    "Objective": "objectives",
    "ReconstructionError": "objectives",
    "Terms": "objectives",
    "NetworkOptions": "networks",
    "VAE": "models",
    "build": "models",
    "fix_scale": "models",
    "DataOptions": "data",
    "load_data": "data",
    "TrainSettings": "training",
    "Run": "workflows",
    "TrainRequest": "workflows",
    "compare": "workflows",
    "diagnose": "workflows",
    "evaluate": "workflows",
    "evaluate_full": "workflows",
    "fidelity": "workflows",
    "fit": "workflows",
    "impute": "workflows",
    "load": "workflows",
    "open_run": "workflows",
    "report": "workflows",
    "score": "workflows",
    "synthesise": "workflows",
    "sweep": "workflows",
    "watch": "workflows",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'calibrae' has no attribute {name!r}")
    home = _HOME[name]
    try:
        value = (
            getattr(importlib.import_module(f".{home}", __name__), name)
            if home
            else importlib.import_module(f".{name}", __name__)
        )
    except ModuleNotFoundError as error:
        from ._optional import missing_extra

        raise missing_extra(error) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
