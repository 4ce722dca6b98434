"""Likelihood of a table whose columns are of several types: one head for each type."""

from ._distribution import MixedRow as MixedRow
from ._likelihood import MixedLikelihood as MixedLikelihood
