"""Imputation of missing cells."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin

from ._base import TableModel


@final
class Imputer(OneToOneFeatureMixin, TransformerMixin, TableModel):  # type: ignore[misc]
    r"""Fills missing cells with $E[x_j | x_{\mathrm{obs}}]$, and words with the most probable one.

    The expectation is over importance-weighted latents; see `calibrae.impute`. Columns that cannot be modelled (an identifier, a
    column without any value) are given back as they came.

    Args:
        n_components: number of latents.
        hidden: widths of the hidden layers.
        max_steps: optimiser steps.
        learning_rate: peak learning rate.
        batch_size: rows of a step.
        columns: type of a column by its name, where the guess is wrong.
        importance_samples: latents of each row.
        objective: registered name of the objective; that of MIWAE, with five samples in place of its twenty, by default.
        random_state: seed.

    References:
        Mattei & Frellsen 2019, https://arxiv.org/abs/1812.02633

    Examples:
        >>> import numpy as np
        >>> from calibrae.sklearn import Imputer
        >>> rows = np.random.default_rng(0).normal(size=(60, 3))
        >>> rows[5, 1] = np.nan
        >>> bool(np.isfinite(Imputer(n_components=1, hidden=(8,), max_steps=5).fit_transform(rows)).all())
        True
    """

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
        objective: str = "iwae:samples=5",
        random_state: Any = 0,
    ) -> None:
        super().__init__(
            n_components,
            hidden=hidden,
            max_steps=max_steps,
            learning_rate=learning_rate,
            batch_size=batch_size,
            columns=columns,
            importance_samples=importance_samples,
            objective=objective,
            random_state=random_state,
        )

    def fit(self, X: Any, y: Any = None) -> Imputer:  # noqa: N803
        """Train on rows `[N, D]`, some of whose cells may be missing."""
        self._fit(X)
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        """Rows with their missing cells filled, `[N, D]`; cells that were there are as they came."""
        rows = self._rows(X, reset=False)
        stored = self.model_.filled(rows)
        filled = self.model_.rows(stored, rows)
        if isinstance(rows, np.ndarray):
            return np.where(np.isnan(rows), filled, rows)
        result, known = rows.copy(), {str(name): filled[name] for name in filled.columns}
        for i, name in enumerate(map(str, result.columns)):
            own = result.iloc[:, i]
            if name in known and own.isna().any():
                result.isetitem(i, own.where(own.notna(), known[name]))
        return result if hasattr(X, "iloc") else result.to_numpy()
