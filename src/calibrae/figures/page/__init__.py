"""The report: one HTML page that needs nothing else."""

from ._pack import packed as packed
from ._page import Advice as Advice
from ._page import Figure as Figure
from ._page import Page as Page
from ._page import Section as Section
from ._page import Table as Table
from ._page import render as render
from ._plots import curves_plot as curves_plot
from ._plots import map_plot as map_plot
