"""Data of every kind, as integer or float arrays with a stated scale."""

from ._cache import cache_root as cache_root
from ._cache import cached_arrays as cached_arrays
from ._condition import GIVEN as GIVEN
from ._condition import Condition as Condition
from ._condition import with_condition as with_condition
from ._dataset import Data as Data
from ._dataset import load_data as load_data
from ._noise import byte_noise as byte_noise
from ._noise import byte_source as byte_source
from ._open import keep_source as keep_source
from ._open import open_source as open_source
from ._prepare import Preparation as Preparation
from ._registry import reads as reads
from ._registry import reads_files as reads_files
from ._row_cache import RowCache as RowCache
from ._schema import Column as Column
from ._schema import Schema as Schema
from ._source import DataOptions as DataOptions
from ._source import Raw as Raw
from ._source import Request as Request
from ._source import Source as Source
from ._source import counted as counted
from ._source import listed as listed
from ._view import View as View
from .readers import KEPT as KEPT
from .readers import NAMES as NAMES
