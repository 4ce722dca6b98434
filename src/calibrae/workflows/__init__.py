"""What a user does in one call: fit and look, evaluate a run, draw from it."""

from ._beta import BetaReport as BetaReport
from ._beta import explain_beta as explain_beta
from ._draw import column_names as column_names
from ._draw import draw_run as draw_run
from ._draw import encode as encode
from ._draw import first_examples as first_examples
from ._draw import interpolate as interpolate
from ._draw import parse_corners as parse_corners
from ._draw import ranked_latents as ranked_latents
from ._draw import reconstruct as reconstruct
from ._draw import sample as sample
from ._draw import save_arrays as save_arrays
from ._draw import save_picture as save_picture
from ._draw import traverse as traverse
from ._fit import fit as fit
from ._fit import resume_options as resume_options
from ._fit import seeded_build as seeded_build
from ._run import Run as Run
from ._run import evaluate as evaluate
from ._run import load as load
from ._run import run_data as run_data
from ._run import run_preparation as run_preparation
from ._self_test import Check as Check
from ._self_test import self_test as self_test
from ._train import train_run as train_run
