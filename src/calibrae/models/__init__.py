"""Models: compositions of networks, a likelihood, a prior and a posterior family."""

from ._compile import CompileChoice as CompileChoice
from ._compile import CompiledIfItPays as CompiledIfItPays
from ._compile import compile_alone as compile_alone
from ._presets import PRESETS as PRESETS
from ._presets import Preset as Preset
from ._presets import build as build
from ._presets import build_from_config as build_from_config
from ._scoring import ELBOSummary as ELBOSummary
from ._scoring import Scorer as Scorer
from ._scoring import calibrate_sigma as calibrate_sigma
from ._scoring import evaluating as evaluating
from ._scoring import fix_sigma as fix_sigma
from ._scoring import optimal_sigma_of as optimal_sigma_of
from ._scoring import optimal_sigma_over as optimal_sigma_over
from ._scoring import summarise as summarise
from ._timing import seconds_in_turns as seconds_in_turns
from ._vae import VAE as VAE
from ._vae import ModelConfig as ModelConfig
from ._walks import interpolation as interpolation
from ._walks import traversal as traversal
