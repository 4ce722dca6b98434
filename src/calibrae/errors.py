"""Everything that calibrae raises on purpose.

Each message says what must hold, what came, and what to do. The command line prints the message alone and exits
with code 2; a library user can catch `CalibraeError`.
"""

TOLD = "the first process of this run tells it"  # note of an error that another process has raised first


class CalibraeError(Exception):
    """Base of all errors that calibrae raises on purpose."""


class ShapeError(CalibraeError, ValueError):
    """Two tensors that must agree in shape do not. Nothing broadcasts silently."""


class ArgumentError(CalibraeError, ValueError):
    """An argument has a value that is not allowed."""


class DataError(CalibraeError, ValueError):
    """The data cannot be read, or cannot be modelled as they are."""


class ScaleNotFixedError(CalibraeError, RuntimeError):
    """An optimal scale was to be evaluated before it was fixed on the training set."""


class NoDensityError(CalibraeError, RuntimeError):
    """A quantity was asked for that only a probabilistic model has."""


class NonFiniteError(CalibraeError, FloatingPointError):
    """Training met a number that is not finite."""


class RunError(CalibraeError, RuntimeError):
    """A run folder is missing, incomplete, or does not fit what is asked of it."""


class MissingExtraError(CalibraeError, ImportError):
    """An optional dependency is not installed."""


def first_line(error: BaseException, most: int = 120) -> str:
    r"""First line of the message, truncated; the class name if it is empty.

    Examples:
        >>> first_line(ValueError("no compiler\nand so on")), first_line(KeyError())
        ('no compiler', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]
