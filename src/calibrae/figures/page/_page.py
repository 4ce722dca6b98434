"""Parts of a report, and the page that is made of them."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, final

from ..._optional import Later
from ...evaluation import plain

if TYPE_CHECKING:
    import jinja2
else:
    jinja2 = Later("jinja2")


@final
@dataclass(frozen=True)
class Figure:
    """A picture with its title.

    Attributes:
        title: title over the picture.
        png: the picture.
        alt: words for those who do not see it.
        note: sentence under it.
        plot: description for plotly of a plot that takes its place where scripts run; `None` for none.
        is_wide: whether it takes the whole width.
    """

    title: str
    png: bytes
    alt: str
    note: str = ""
    plot: dict[str, Any] | None = None
    is_wide: bool = False

    @property
    def source(self) -> str:
        """The picture as an address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    @property
    def json(self) -> str:
        """The plot's description, safe between tags."""
        return json.dumps(plain(self.plot), allow_nan=False).replace("<", "\\u003c")


@final
@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        head: names of the columns; none for pairs of a name and a value.
        rows: cells.
        caption: words over it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@final
@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: its title.
        text: a paragraph.
        figures: pictures.
        tables: tables.
        code: a command or a file.
    """

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    code: str = ""

    @property
    def anchor(self) -> str:
        """Name by which the page links to it."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@final
@dataclass(frozen=True)
class Advice:
    """A finding, and the command that follows from it.

    Attributes:
        severity: `error`, `warning` or `note`.
        message: measured facts.
        remedy: advice.
        command: command to try; empty if there is none.
    """

    severity: str
    message: str
    remedy: str
    command: str = ""


@final
@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: name of the run.
        subtitle: model, its size and its data.
        verdict: verdict in a sentence.
        numbers: the numbers that matter, each with its name and what it is compared with.
        highlights: at most six pictures.
        advice: findings, most important first; `None` where there are none to show.
        sections: all else.
        footer: how the page was made.
    """

    title: str
    subtitle: str
    verdict: str
    numbers: Sequence[tuple[str, str, str]]
    highlights: Sequence[Figure]
    advice: Sequence[Advice] | None
    sections: Sequence[Section]
    footer: str = ""

    @property
    def has_plots(self) -> bool:
        """Tell whether plotly is needed."""
        figures = [*self.highlights, *(figure for section in self.sections for figure in section.figures)]
        return any(figure.plot is not None for figure in figures)


@dataclass(frozen=True)
class _Scripts:
    """Scripts and style of the page."""

    style: str
    script: str
    plotly: str = field(default="")


def render(page: Page) -> str:
    """Write a page as one HTML file, which needs no network; with everything to be seen where scripts do not run."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    parts = _Scripts(_resource("page.css"), _resource("page.js"), _plotly() if page.has_plots else "")
    return environment.from_string(_resource("page.html.jinja")).render(page=page, parts=parts)


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Plotly's script, packed: 1.4 MB gzipped in place of 4.6; empty if plotly is not installed, as all pictures are there without it."""
    try:
        content = resources.files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    except (ModuleNotFoundError, OSError):
        return ""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
