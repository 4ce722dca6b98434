"""Models: compositions of networks, likelihood, prior, posterior and objective."""

from ._config import ModelConfig as ModelConfig
from ._fix_scale import batches_of as batches_of
from ._fix_scale import fix_scale as fix_scale
from ._fix_scale import fix_scale_over as fix_scale_over
from ._fix_scale import optimal_scale_of as optimal_scale_of
from ._fix_scale import scale_over as scale_over
from ._modes import evaluating as evaluating
from ._modes import sample_data as sample_data
from ._modes import sample_latents as sample_latents
from ._modes import seeded as seeded
from ._presets import PRESETS as PRESETS
from ._presets import Preset as Preset
from ._presets import build as build
from ._presets import build_from_config as build_from_config
from ._summary import ELBOSummary as ELBOSummary
from ._summary import Scorer as Scorer
from ._summary import Tally as Tally
from ._summary import summarise as summarise
from ._table_baseline import TableBaseline as TableBaseline
from ._table_baseline import levels_in as levels_in
from ._table_baseline import scores_in as scores_in
from ._vae import VAE as VAE
from ._vae import mean_of as mean_of
from ._walks import interpolation as interpolation
from ._walks import traversal as traversal
from ._weights import seeded_weights as seeded_weights
