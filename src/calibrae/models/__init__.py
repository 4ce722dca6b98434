"""Models: compositions of networks, a likelihood, a prior and a posterior family."""

from ._presets import PRESETS as PRESETS
from ._presets import Preset as Preset
from ._presets import build as build
from ._presets import build_from_config as build_from_config
from ._vae import VAE as VAE
from ._vae import ModelConfig as ModelConfig
