"""An alarm for unusual examples, whose rate of false alarms is stated and kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from .._types import AnySplit
from ..data import DataOptions
from ..errors import ArgumentError, RunError
from ..evaluation import Typical, alarm_threshold, conformal_p_values
from ..runs import RunFolder, checksum, load_tensors, save_tensors
from ..training import progress_bar
from ._assess import Scores, score
from ._run import Run, open_run

ALARM = "alarm.safetensors"
DRIFT = 0.01  # p-value below which a file is said to differ


@final
@dataclass(frozen=True)
class Alarm:
    """Calibration of an alarm; stored with the run.

    Attributes:
        typical: middle and widths of the scores of the validation rows.
        calibration: strangeness of the rows of the test split, `[n]`, which neither training nor selection saw.
        columns: middles and widths of each element's own part, `[3, D]`; `None` where parts cannot be told.
        calibration_columns: strangeness of each element's part, `[n, D]`; `None` where parts cannot be told.
        samples: `K` of the scores.
        corrected: whether the scores are corrected for complexity.
    """

    typical: Typical
    calibration: Tensor
    columns: Tensor | None
    calibration_columns: Tensor | None
    samples: int
    corrected: bool = False

    def score(self, scores: Scores) -> Tensor:
        """The number by which examples are judged, `[m]`."""
        return scores.corrected if self.corrected else scores.nll

    def p_values(self, scores: Scores) -> Tensor:
        """P-value of each score, `[m]`."""
        return conformal_p_values(self.calibration, self.typical.strangeness(self.score(scores)))

    def column_p_values(self, parts: Tensor) -> tuple[Tensor, Tensor] | None:
        """P-value of each element's part `[m, D]` against that element's own calibration, and the strangest element `[m]`.

        `None` where parts cannot be told.
        """
        if self.columns is None or self.calibration_columns is None:
            return None
        strange = _strangeness_by_column(self.columns, parts)
        each = zip(self.calibration_columns.T, strange.T, strict=True)
        found = torch.stack([conformal_p_values(known, own) for known, own in each], 1)
        least = found == found.min(1, keepdim=True).values
        return found, strange.masked_fill(~least, -torch.inf).argmax(1)


@final
@dataclass(frozen=True)
class Watch:
    """What an alarm says of some examples.

    Attributes:
        scores: `-log p(x)` of each example.
        p_values: p-value of each, `[N]`: how often an ordinary example would be as strange.
        alarms: which examples raise the alarm, `[N]`.
        rate: stated rate of false alarms.
        threshold: strangeness from which an example raises it.
        calibrated_on: number of calibration rows.
        columns: p-value of each element's own part, `[N, D]`, flattened; `None` where parts cannot be told.
        strangest: element with the smallest p-value of each example, `[N]`; of several the one that is strangest.
        drift: a sentence on the file as a whole.
    """

    scores: Scores
    p_values: Tensor
    alarms: Tensor
    rate: float
    threshold: float
    calibrated_on: int
    columns: Tensor | None
    strangest: Tensor | None
    drift: str


@progress_bar()
def watch(
    run: str | Path | Run,
    data: Any = None,
    *,
    false_alarm_rate: float = 0.01,
    importance_samples: int = 50,
    corrected: bool = False,
    split: AnySplit | None = None,
    seed: int = 0,
    options: DataOptions | None = None,
    device: str = "auto",
) -> Watch:
    r"""Raise an alarm for unusual examples, at a stated rate of false alarms.

    An example is strange if its `-log p(x)` is far from the middle of typical ones, on either side: a likelihood alone takes a black
    picture, which is *too* likely, for ordinary. Its p-value is that of `conformal_p_values` among the rows of the test split, so

    $$P(\text{alarm}) \le \text{rate}$$

    for new rows that are like the old ones, whatever the model. The calibration is stored with the run, `alarm.safetensors`.

    Args:
        run: a run, or its folder. The rows of its test split calibrate the alarm: do not tune anything on them.
        data: examples to judge; by default none but the run's own of `split`.
        false_alarm_rate: share of ordinary examples that raise the alarm, at most.
        importance_samples: `K` of the scores.
        corrected: whether to judge by `-log p(x)` less the complexity of an example, for data that are whole numbers.
        split: split of the data; by default all of them.
        seed: seed of all noise.
        options: how to read the data.
        device: where to compute.

    Raises:
        ArgumentError: if the rate cannot be kept with so few calibration rows, or the run's own test rows are to be judged.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    if data is None and split in (None, "test", "all"):
        raise ArgumentError(
            "the rows of the test split calibrate the alarm, so it says nothing of them. Pass other data."
        )
    alarm = stored_alarm(opened, importance_samples, corrected=corrected, seed=seed, device=device)
    threshold = alarm_threshold(alarm.calibration, false_alarm_rate)
    count = len(alarm.calibration)
    if threshold == float("inf"):
        raise ArgumentError(
            f"a rate of {false_alarm_rate:g} needs at least {round(1 / false_alarm_rate)} calibration rows; the test split has {count}. "
            "Ask for a higher rate, or hold out more rows."
        )
    found = score(
        opened,
        data,
        split=split,
        importance_samples=importance_samples,
        seed=seed,
        options=options,
        device=device,
    )
    p_values = alarm.p_values(found)
    parts = found.attribution.per_element if alarm.columns is not None else None
    columns, strangest = (None if parts is None else alarm.column_p_values(parts.flatten(1))) or (None, None)
    alarms = p_values <= false_alarm_rate + 1e-12
    return Watch(found, p_values, alarms, false_alarm_rate, threshold, count, columns, strangest, _drift(alarm, found))


def stored_alarm(
    run: Run,
    importance_samples: int = 50,
    *,
    corrected: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> Alarm:
    """The alarm of a run, calibrated once and stored with it; anew for another model, other data, another seed or other `K`.

    Args:
        run: a run with data of its own.
        importance_samples: `K` of the scores.
        corrected: whether to judge by `-log p(x)` less the complexity of an example.
        seed: seed of all noise.
        device: where to compute.
    """
    facts = {
        "samples": str(importance_samples),
        "corrected": str(corrected),
        "seed": str(seed),
        "model": checksum(run.folder.path / "model.safetensors"),
        "data": run.data.source.fingerprint,
    }
    known = _load(run.folder, facts)
    if known is not None:
        return known
    how: dict[str, Any] = {"importance_samples": importance_samples, "device": device}
    typical = score(run, split="validation", seed=seed + 1, **how)
    calibration = score(run, split="test", seed=seed + 2, **how)
    alarm = _calibrated(typical, calibration, importance_samples, corrected=corrected)
    tensors = {
        "calibration": alarm.calibration,
        "typical": torch.tensor([alarm.typical.middle, alarm.typical.below, alarm.typical.above], dtype=torch.float64),
    }
    if alarm.columns is not None and alarm.calibration_columns is not None:
        tensors |= {"columns": alarm.columns, "calibration_columns": alarm.calibration_columns}
    run.folder.commit({ALARM: partial(save_tensors, tensors=tensors, facts=facts)})
    return alarm


def _calibrated(typical: Scores, calibration: Scores, samples: int, *, corrected: bool) -> Alarm:
    middle = Typical.of(typical.corrected if corrected else typical.nll)
    judged = calibration.corrected if corrected else calibration.nll
    parts, own = typical.attribution.per_element, calibration.attribution.per_element
    columns, by_column = None, None
    if parts is not None and own is not None and parts.ndim == 2:
        each = [Typical.of(column) for column in parts.flatten(1).T]
        columns = torch.tensor(
            [[t.middle for t in each], [t.below for t in each], [t.above for t in each]], dtype=torch.float64
        )
        by_column = _strangeness_by_column(columns, own.flatten(1))
    return Alarm(middle, middle.strangeness(judged), columns, by_column, samples, corrected)


def _strangeness_by_column(columns: Tensor, parts: Tensor) -> Tensor:
    each = zip(columns.T.tolist(), parts.T, strict=True)
    return torch.stack([Typical(*known).strangeness(own) for known, own in each], 1)


def _load(folder: RunFolder, asked: dict[str, str]) -> Alarm | None:
    """The stored alarm, if it is of this model, these data, this seed and so many samples."""
    place = folder.path / ALARM
    if not place.is_file():
        return None
    tensors, facts = load_tensors(place)
    if {name: facts.get(name) for name in asked} != asked:
        return None
    try:
        typical = Typical(*tensors["typical"].tolist())
        return Alarm(
            typical,
            tensors["calibration"],
            tensors.get("columns"),
            tensors.get("calibration_columns"),
            int(facts["samples"]),
            facts["corrected"] == "True",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{place} is not complete. Delete it; the alarm is calibrated anew.") from error


def _drift(alarm: Alarm, scores: Scores) -> str:
    """Say whether the strangeness of a whole file differs from that of the calibration rows (Kolmogorov-Smirnov, two samples)."""
    from scipy.stats import ks_2samp

    judged = alarm.score(scores)
    if len(judged) < 2:
        return "one example says nothing of a file as a whole"
    test = ks_2samp(alarm.typical.strangeness(judged).numpy(), alarm.calibration.numpy())
    if test.pvalue < DRIFT:
        middle = float(alarm.p_values(scores).median())
        side = "stranger" if middle < 0.5 else "less strange"
        return f"the file as a whole differs from the rows of training: it is {side} (median p-value {middle:.2f} for .50; Kolmogorov-Smirnov p-value {test.pvalue:.2g})"
    return (
        f"the file as a whole does not differ from the rows of training (Kolmogorov-Smirnov p-value {test.pvalue:.2g})"
    )
