"""A calibrated VAE of a table, as a transformer and a density."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state

from ._base import TableModel


@final
class CalibratedVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TableModel):  # type: ignore[misc]
    r"""Density and codes of a table with words, numbers and missing cells.

    $$\log p(x) \ge \log \frac1K \sum_k \frac{p(x_{\mathrm{obs}}|z_k)\, p(z_k)}{q(z_k|x_{\mathrm{obs}})}$$

    in nats, in the units of the table: a log density of numbers, a log-probability of categories, levels and counts. A missing cell is
    integrated out. Every row has the same noise, so its score does not depend on the rows beside it.

    Args:
        n_components: number of latents.
        hidden: widths of the hidden layers.
        max_steps: optimiser steps.
        learning_rate: peak learning rate.
        batch_size: rows of a step.
        columns: type of a column by its name, where the guess is wrong; see `DataOptions.columns`.
        importance_samples: `K`.
        objective: registered name of the objective, as `iwae:samples=5`.
        random_state: seed.

    Attributes:
        model_: trained model and what belongs to it.
        n_iter_: epochs that were trained.
        notes_: sentences on each assumption and each omission.

    Examples:
        >>> import numpy as np
        >>> from calibrae.sklearn import CalibratedVAE
        >>> rows = np.random.default_rng(0).normal(size=(60, 3))
        >>> vae = CalibratedVAE(n_components=2, hidden=(8,), max_steps=5).fit(rows)
        >>> vae.transform(rows).shape, vae.score_samples(rows).shape
        ((60, 2), (60,))
    """

    def fit(self, X: Any, y: Any = None) -> CalibratedVAE:  # noqa: N803
        """Train on rows `[N, D]`: a data frame or an array; `y` is not used."""
        self._fit(X)
        self._n_features_out = int(self.n_components)
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Posterior means of the latents, `[N, n_components]`."""
        rows = self._rows(X, reset=False)
        return self.model_.encode(rows)

    def inverse_transform(self, X: Any) -> Any:  # noqa: N803
        """Mean row of each code, `[N, D]`: means of numbers, most probable categories; as an array, or a frame if one was fitted."""
        from sklearn.utils.validation import check_array, check_is_fitted

        check_is_fitted(self)
        return self._given_back(self.model_.decode(check_array(X)))

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """`log p(x)` of each row, at least, `[N]`, nats."""
        rows = self._rows(X, reset=False)
        return self.model_.log_prob(rows)

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803
        """Mean of `score_samples`."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, *, random_state: Any = None) -> Any:
        """Draw rows from `p(x)`, observation noise and all."""
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        seed = int(check_random_state(self.random_state if random_state is None else random_state).randint(2**31 - 1))
        return self._given_back(self.model_.sample(n_samples, seed))

    def _given_back(self, stored: np.ndarray) -> Any:
        if not hasattr(self, "feature_names_in_"):
            return self.model_.rows(stored, np.empty((0, 0), dtype=object if self._has_words else float))
        return self.model_.rows(stored, None).reindex(columns=self.feature_names_in_)  # an identifier comes back empty
