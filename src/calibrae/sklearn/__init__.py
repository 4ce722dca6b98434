"""Estimators with the interface of scikit-learn, for tables with words, numbers and missing cells."""

from ._detector import Detector as Detector
from ._imputer import Imputer as Imputer
from ._vae import CalibratedVAE as CalibratedVAE

__all__ = ["CalibratedVAE", "Detector", "Imputer"]
