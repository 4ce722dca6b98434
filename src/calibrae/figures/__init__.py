"""Pictures and plots."""

from ._assess import save_calibration as save_calibration
from ._assess import save_latents as save_latents
from ._assess import save_scores as save_scores
from ._columns import TableColumn as TableColumn
from ._columns import save_column_walks as save_column_walks
from ._columns import save_columns as save_columns
from ._columns import save_rebuilt_columns as save_rebuilt_columns
from ._columns import save_row as save_row
from ._curves import save_curves as save_curves
from ._curves import save_overlay as save_overlay
from ._grids import image_grid as image_grid
from ._grids import save_grid as save_grid
from ._grids import shrunk as shrunk
from ._map import MOST_GROUPS as MOST_GROUPS
from ._map import save_map as save_map
from ._map import save_marginals as save_marginals
from ._pairs import save_column_pairs as save_column_pairs
from ._pairs import save_missing as save_missing
from ._rate import save_rate as save_rate
from ._rate import save_rate_distortion as save_rate_distortion
from ._tables import save_histograms as save_histograms
from ._tables import save_pairs as save_pairs
from ._tables import save_walks as save_walks
