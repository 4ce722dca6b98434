"""Tables whose columns are of several types, or have missing cells."""

from ._coded import coded as coded
from ._coded import stored_cell as stored_cell
from ._filled import CameTable as CameTable
from ._filled import fill as fill
from ._filled import fill_text as fill_text
from ._filled import table_as_came as table_as_came
from ._joined import one_code as one_code
from ._mixed import fingerprint_of as fingerprint_of
from ._mixed import is_mixed as is_mixed
from ._mixed import mixed_table as mixed_table
from ._models import fit_columns as fit_columns
from ._rows import as_frame as as_frame
from ._rows import date_of as date_of
from ._rows import in_table_units as in_table_units
from ._rows import not_given_back as not_given_back
from ._rows import rows_of as rows_of
from ._rows import written_cells as written_cells
from ._stored import stored_rows as stored_rows
from ._types import column_table as column_table
from ._varying import varying as varying
