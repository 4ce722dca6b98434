"""Run folders: what was asked for, what came of it, and the trained model."""

from ._atomic import replace_file as replace_file
from ._atomic import replace_json as replace_json
from ._atomic import replace_text as replace_text
from ._folder import RunFolder as RunFolder
from ._folder import versions as versions
from ._model_io import load_baseline as load_baseline
from ._model_io import load_model as load_model
from ._model_io import require_storable as require_storable
from ._model_io import save_baseline as save_baseline
from ._model_io import save_model as save_model
