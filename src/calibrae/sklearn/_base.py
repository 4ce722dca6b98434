"""What the estimators share: parameters, validation, and the fitted model."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from ._fitted import Fitted, fitted


class TableModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Base of the estimators; not for use by itself."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden": ["array-like"],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "columns": [dict, None],
        "importance_samples": [Interval(Integral, 1, None, closed="left")],
        "objective": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int = 8,
        *,
        hidden: tuple[int, ...] = (128, 128),
        max_steps: int = 3000,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
        columns: dict[str, str] | None = None,
        importance_samples: int = 50,
        objective: str = "beta-elbo",
        random_state: Any = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden = hidden
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.columns = columns
        self.importance_samples = importance_samples
        self.objective = objective
        self.random_state = random_state

    def _fit(self, X: Any) -> Any:  # noqa: N803 (scikit-learn's name)
        """Validate the rows and train; returns the rows as they are read."""
        self._validate_params()
        rows = self._rows(X, reset=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.model_: Fitted = fitted(
            rows,
            latent_dim=int(self.n_components),
            hidden=tuple(int(width) for width in self.hidden),
            max_steps=int(self.max_steps),
            lr=float(self.learning_rate),
            batch_size=int(self.batch_size),
            columns=self.columns,
            samples=int(self.importance_samples),
            objective=self.objective,
            seed=seed,
        )
        self._has_words = not isinstance(rows, np.ndarray)
        self.n_iter_ = len(self.model_.history)
        self.notes_ = self.model_.notes
        return rows

    def _rows(self, X: Any, *, reset: bool) -> Any:  # noqa: N803
        """Rows as the model reads them: a data frame as it is, an array of numbers as float64, of objects as a data frame."""
        if not reset:
            check_is_fitted(self)
        checked = validate_data(
            self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=2 if reset else 1
        )
        if hasattr(X, "columns") and hasattr(X, "iloc"):
            return X.reset_index(drop=True)
        if checked.dtype.kind in "biuf":
            return checked.astype(np.float64)
        import pandas as pd

        return pd.DataFrame(checked, columns=[f"x{i}" for i in range(checked.shape[1])]).infer_objects()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.non_deterministic = False
        return tags
