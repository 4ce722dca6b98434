"""The workbench in the browser: widgets over what `workflows` does."""

from ._server import serve as serve
from ._server import workbench as workbench
