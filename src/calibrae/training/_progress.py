"""Progress of training, for people."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

REFRESH_EVERY = 5  # steps between two looks at the running means


class AbstractReporter(ABC):
    """Receives what happens; prints it, or does not."""

    @abstractmethod
    def start(self, total_steps: int, done: int) -> None:
        """Training begins, perhaps in the middle."""

    @abstractmethod
    def retarget(self, total_steps: int) -> None:
        """The run takes another number of steps than it seemed at first."""

    @abstractmethod
    def step(self, step: int, terms: Mapping[str, float]) -> None:
        """One optimiser step is done."""

    @abstractmethod
    def epoch(self, row: Mapping[str, float], best: bool) -> None:
        """One epoch is done and validated."""

    @abstractmethod
    def say(self, text: str) -> None:
        """One line for the user."""

    @abstractmethod
    def close(self) -> None:
        """Training is over, for whatever reason."""


@final
class Silent(AbstractReporter):
    """Says nothing."""

    def start(self, total_steps: int, done: int) -> None:
        pass

    def retarget(self, total_steps: int) -> None:
        pass

    def step(self, step: int, terms: Mapping[str, float]) -> None:
        pass

    def epoch(self, row: Mapping[str, float], best: bool) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def format_terms(terms: Mapping[str, float]) -> str:
    """Format the terms that matter, on one line.

    Examples:
        >>> from calibrae.training._progress import format_terms
        >>> format_terms({"elbo": -12.3, "kl": 4.5, "rmse": 0.1, "sigma": 0.1, "bits_per_dim": 5.25})
        'ELBO -12.3 nats  5.250 bits/dim  RMSE 0.1000  sigma 0.1000  KL 4.5'
        >>> format_terms({"loss": 12.3, "rmse": 0.1})
        'loss 12.3 nats  RMSE 0.1000'
    """
    first = f"ELBO {terms['elbo']:.1f} nats" if "elbo" in terms else f"loss {terms['loss']:.1f} nats"
    shown = [first]
    if "bits_per_dim" in terms:
        shown.append(f"{terms['bits_per_dim']:.3f} bits/dim")
    shown.append(f"RMSE {terms['rmse']:.4f}")
    if "sigma" in terms:
        shown.append(f"sigma {terms['sigma']:.4f}")
    if "kl" in terms:
        shown.append(f"KL {terms['kl']:.1f}")
    return "  ".join(shown)


@final
class Bar(AbstractReporter):
    """A live bar on a terminal and a line per epoch, on standard error."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._explained = False

    def start(self, total_steps: int, done: int) -> None:
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            BarColumn(bar_width=16),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=total_steps, completed=done)
        self._progress.start()

    def retarget(self, total_steps: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=total_steps)

    def step(self, step: int, terms: Mapping[str, float]) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=step, description=format_terms(terms))

    def epoch(self, row: Mapping[str, float], best: bool) -> None:
        terms = {name.removeprefix("validation_"): v for name, v in row.items() if name.startswith("validation_")}
        terms |= {"sigma": row["sigma"]} if "sigma" in row else {}
        differs = "elbo" in terms and abs(terms["loss"] + terms["elbo"]) > 0.05
        if terms.get("elbo", 0.0) > 0 and not self._explained:
            self._explained = True
            self.say("note: an ELBO above 0, a negative loss, is right: a density exceeds 1 where values vary little")
        mark = (f"  loss {terms['loss']:.1f}" if differs else "") + ("  best" if best else "")
        self.say(f"epoch {row['epoch']:>3.0f}  {row['seconds']:>6.0f} s  validation {format_terms(terms)}{mark}")

    def say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
