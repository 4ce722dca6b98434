"""A detector of unusual rows whose rate of false alarms is known."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, final

import numpy as np
import torch
from sklearn.base import OutlierMixin
from sklearn.utils._param_validation import Interval, StrOptions

from ..evaluation import Typical, alarm_threshold, conformal_p_values
from ._base import TableModel
from ._fitted import _taken

CALIBRATION = 0.2  # share of the rows that calibrate the alarm, and are not trained on
DIGITS = 9  # of a strangeness: a row at the threshold must not cross it by the rounding of a batch
FEWEST = 40  # rows below which all are trained on and all calibrate it


@final
class Detector(OutlierMixin, TableModel):  # type: ignore[misc]
    r"""Alarm for unusual rows, by conformal p-values of `log p(x)`.

    A row is strange if its score is far from that of typical rows, on either side. A fifth of the rows is held out, which neither
    training nor the choice of an epoch sees, and for rows like these

    $$P(\text{alarm}) \le \text{false\_alarm\_rate}$$

    whatever the model. With fewer than 40 rows none are held out and the rate does not hold; `notes_` says so.

    Args:
        n_components: number of latents.
        contamination: `auto`, or the share of the *training* rows that are to raise the alarm, in place of a false-alarm rate.
        false_alarm_rate: share of ordinary rows that raise the alarm, at most.
        hidden: widths of the hidden layers.
        max_steps: optimiser steps.
        learning_rate: peak learning rate.
        batch_size: rows of a step.
        columns: type of a column by its name, where the guess is wrong.
        importance_samples: `K` of `log p(x)`.
        objective: registered name of the objective.
        random_state: seed.

    Attributes:
        offset_: `decision_function` is `score_samples` minus this.
        threshold_: strangeness from which a row raises the alarm (pyod's name).
        decision_scores_: strangeness of the training rows (pyod's name).
        labels_: 1 for a training row that raises the alarm, else 0 (pyod's name).
        calibration_: strangeness of the held-out rows.

    Examples:
        >>> import numpy as np
        >>> from calibrae.sklearn import Detector
        >>> rows = np.random.default_rng(0).normal(size=(100, 2))
        >>> alarm = Detector(n_components=1, hidden=(8,), max_steps=5, false_alarm_rate=0.1).fit(rows)
        >>> alarm.predict([[50.0, -50.0]])
        array([-1])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TableModel._parameter_constraints,
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        n_components: int = 8,
        *,
        contamination: Any = "auto",
        false_alarm_rate: float = 0.05,
        hidden: tuple[int, ...] = (128, 128),
        max_steps: int = 3000,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
        columns: dict[str, str] | None = None,
        importance_samples: int = 50,
        objective: str = "beta-elbo",
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
        self.contamination = contamination
        self.false_alarm_rate = false_alarm_rate

    def fit(self, X: Any, y: Any = None) -> Detector:  # noqa: N803
        """Train on four fifths of the rows, and calibrate the alarm on the others."""
        self._validate_params()
        rows = self._rows(X, reset=True)
        order = np.random.default_rng(0).permutation(len(rows))
        held = np.sort(order[: int(CALIBRATION * len(rows))])
        enough = len(rows) >= FEWEST
        trained = _taken(rows, np.sort(order[len(held) :])) if enough else rows
        self._fit(trained)
        if not enough:
            self.notes_ = (
                *self.notes_,
                f"the rate of false alarms does not hold: {len(rows)} rows are too few to hold any out",
            )
        self.typical_ = (
            Typical.of(torch.from_numpy(self.model_.log_prob(trained)).neg())
            if len(trained) > 3
            else Typical(0.0, 1.0, 1.0)
        )
        self.calibration_ = self._strangeness(_taken(rows, held) if enough else rows)
        self.decision_scores_ = self._strangeness(rows)
        self.threshold_ = self._threshold()
        self.offset_ = -self.threshold_
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
        return self

    def _threshold(self) -> float:
        if self.contamination != "auto":
            return float(np.percentile(self.decision_scores_, 100.0 * (1.0 - self.contamination)))
        found = alarm_threshold(torch.from_numpy(self.calibration_), float(self.false_alarm_rate))
        if np.isfinite(found):
            return found
        self.notes_ = (
            *self.notes_,
            f"{len(self.calibration_)} held-out rows cannot tell a rate of {self.false_alarm_rate:g}: no row raises the alarm",
        )
        return float(np.finfo(np.float64).max)

    def _strangeness(self, rows: Any) -> np.ndarray:
        found: np.ndarray = self.typical_.strangeness(torch.from_numpy(-self.model_.log_prob(rows))).numpy()
        return np.round(found, DIGITS)

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Minus the strangeness of each row, `[N]`: high for typical rows."""
        return -self._strangeness(self._rows(X, reset=False))

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """`score_samples` minus `offset_`: negative for rows that raise the alarm."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """-1 for rows that raise the alarm, 1 for others."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> np.ndarray:  # noqa: N803
        """Conformal p-value of each row, `[N]`."""
        strange = -self.score_samples(X)
        found: np.ndarray = conformal_p_values(torch.from_numpy(self.calibration_), torch.from_numpy(strange)).numpy()
        return found
