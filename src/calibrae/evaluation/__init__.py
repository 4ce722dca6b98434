"""Bounds, closed-form floors and summaries: numbers that can be compared."""

from ._evaluate import Tick as Tick
from ._evaluate import evaluate_model as evaluate_model
from ._evaluate import mean_log_likelihood as mean_log_likelihood
from ._evaluate import training_ppca as training_ppca
from ._evaluate import training_spectrum as training_spectrum
from ._importance import ImportanceSummary as ImportanceSummary
from ._importance import importance_weighted as importance_weighted
from ._oracles import cubature_noise as cubature_noise
from ._oracles import exact_linear_elbo as exact_linear_elbo
from ._oracles import linear_vae_at_ppca as linear_vae_at_ppca
from ._record import Evaluation as Evaluation
from ._spectrum import Spectrum as Spectrum
from ._spectrum import data_spectrum as data_spectrum
