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
    def detail(self, text: str) -> None:
        """One line for those who ask how it is done."""

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

    def detail(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


Column = tuple[str, str, int, int]  # of the table of epochs: term, heading, characters, digits
COLUMNS: tuple[Column, ...] = (
    ("elbo", "ELBO", 10, 2),
    ("loss", "loss", 10, 2),
    ("bits_per_dim", "bits/dim", 8, 3),
    ("rmse", "RMSE", 6, 4),
    ("sigma", "sigma", 6, 4),
    ("kl", "KL", 7, 1),
)


def columns_of(terms: Mapping[str, float]) -> list[Column]:
    """Columns of the table of epochs: the loss only where it is not the ELBO's negative."""
    differs = "elbo" not in terms or abs(terms["loss"] + terms["elbo"]) > 0.05
    return [column for column in COLUMNS if column[0] in terms and (column[0] != "loss" or differs)]


def format_terms(terms: Mapping[str, float]) -> str:
    """Format the terms that matter, on one line that is short enough for a bar.

    Examples:
        >>> from calibrae.training._progress import format_terms
        >>> format_terms({"elbo": -12.3, "kl": 4.5, "rmse": 0.1, "sigma": 0.1, "bits_per_dim": 5.25})
        'ELBO -12.3  5.250 bits/dim  sigma 0.1000  KL 4.5'
        >>> format_terms({"loss": 12.3, "rmse": 0.1})
        'loss 12.3  RMSE 0.1000'
    """
    shown = [f"ELBO {terms['elbo']:.1f}" if "elbo" in terms else f"loss {terms['loss']:.1f}"]
    if "bits_per_dim" in terms:
        shown.append(f"{terms['bits_per_dim']:.3f} bits/dim")
    if "sigma" in terms or "rmse" in terms:
        shown.append(f"sigma {terms['sigma']:.4f}" if "sigma" in terms else f"RMSE {terms['rmse']:.4f}")
    if "kl" in terms:
        shown.append(f"KL {terms['kl']:.1f}")
    return "  ".join(shown)


@final
class Bar(AbstractReporter):
    """A live bar on a terminal and a table with a row an epoch, on standard error: 80 characters wide at most.

    Args:
        verbose: also tell what only those need who ask how it is done.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self.verbose = verbose
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._explained = False
        self._columns: list[Column] = []

    def start(self, total_steps: int, done: int) -> None:
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            BarColumn(bar_width=10),
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
        if terms.get("elbo", 0.0) > 0 and not self._explained:
            self._explained = True
            self.say("note: an ELBO above 0 is right: a density exceeds 1 where values vary little")
        needed = columns_of(terms)
        if not set(needed) <= set(self._columns) or any(name not in terms for name, *_ in self._columns):
            self._columns = needed
            heads = "".join(f"  {head:>{width}}" for _, head, width, _ in self._columns)
            self.say(f"validation after each epoch, in nats:\nepoch     time{heads}")
        cells = "".join(f"  {terms[name]:>{width}.{digits}f}" for name, _, width, digits in self._columns)
        self.say(f"{row['epoch']:>5.0f} {row['seconds']:>6.0f} s{cells}" + ("  best" if best else ""))

    def detail(self, text: str) -> None:
        if self.verbose:
            self.say(text)

    def say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
