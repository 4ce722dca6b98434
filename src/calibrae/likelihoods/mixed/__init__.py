"""Likelihood of a table whose columns are of several types: one head for each type."""

from ._likelihood import MixedLikelihood as MixedLikelihood
