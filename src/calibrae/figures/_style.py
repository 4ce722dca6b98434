"""One look for all plots, without pyplot's global state."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MissingExtraError
from ..runs import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, DARK = "#1f5fa8", "#d9662b", "#8a8f98", "#3a3f47"
CATEGORIES = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#b8a100",
    "#5b3a8c",
    "#8a5a44",
)  # Okabe and Ito's, for the colour-blind too
DPI = 130


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib. Install it: pip install 'calibrae[figures]'") from error
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def short(text: object, most: int) -> str:
    """A text of so many characters at most: cut between words, or within the first where that is longer.

    Examples:
        >>> from calibrae.figures._style import short
        >>> short("a few words", 9), short("onelongword", 7)
        ('a few...', 'onelong')
    """
    cut = textwrap.shorten(str(text), most, placeholder="...")
    return str(text)[:most] if cut in ("", "...") else cut


def tidy(axes: Axes) -> Axes:
    """Axes without a box, with a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.tick_params(labelsize=8)
    return axes


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG, whole or not at all."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from font"
        )  # a name in a script that the font lacks is drawn as boxes
        replace_file(path, lambda temporary: figure.savefig(temporary, format="png"))
    return path
