"""Tables whose columns are of several types, or have missing cells."""

from ._coded import coded as coded
from ._mixed import is_mixed as is_mixed
from ._mixed import mixed_table as mixed_table
from ._models import fit_columns as fit_columns
from ._types import column_table as column_table
