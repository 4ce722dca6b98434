"""Run folders: what was asked for, what came of it, and the trained model."""

from ._atomic import Writer as Writer
from ._atomic import checksum as checksum
from ._atomic import replace_file as replace_file
from ._atomic import replace_json as replace_json
from ._atomic import replace_text as replace_text
from ._folder import RunFolder as RunFolder
from ._hardware import hardware as hardware
from ._hardware import peak_memory as peak_memory
from ._lock import Lock as Lock
from ._lock import process_runs as process_runs
from ._lock import process_start as process_start
from ._manifest import require_format as require_format
from ._manifest import versions as versions
from ._model_io import load_baseline as load_baseline
from ._model_io import load_model as load_model
from ._model_io import require_storable as require_storable
from ._model_io import save_baseline as save_baseline
from ._model_io import save_model as save_model
from ._tensors import load_tensors as load_tensors
from ._tensors import load_tree as load_tree
from ._tensors import save_tensors as save_tensors
from ._tensors import save_tree as save_tree
