"""Bounds, closed-form floors and summaries: numbers that can be compared."""

from ._annealed import AnnealedSettings as AnnealedSettings
from ._annealed import AnnealedSummary as AnnealedSummary
from ._annealed import BidirectionalSummary as BidirectionalSummary
from ._annealed import annealed_importance as annealed_importance
from ._annealed import bidirectional as bidirectional
from ._calibration import Calibration as Calibration
from ._calibration import Residuals as Residuals
from ._calibration import calibration as calibration
from ._evaluate import Tick as Tick
from ._evaluate import evaluate_model as evaluate_model
from ._evaluate import mean_log_likelihood as mean_log_likelihood
from ._evaluate import training_ppca as training_ppca
from ._evaluate import training_spectrum as training_spectrum
from ._importance import ImportanceSummary as ImportanceSummary
from ._importance import importance_weighted as importance_weighted
from ._latents import LatentDiagnosis as LatentDiagnosis
from ._latents import diagnose_latents as diagnose_latents
from ._oracles import cubature_noise as cubature_noise
from ._oracles import exact_linear_elbo as exact_linear_elbo
from ._oracles import linear_vae_at_ppca as linear_vae_at_ppca
from ._quadrature import quadrature_log_likelihood as quadrature_log_likelihood
from ._record import Evaluation as Evaluation
from ._sources import Ring as Ring
from ._sources import sample_ppca as sample_ppca
from ._spectrum import Spectrum as Spectrum
from ._spectrum import data_spectrum as data_spectrum
