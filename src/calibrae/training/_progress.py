"""Progress of training, for people."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

from ._bars import AbstractBar, open_bar

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


def has_row(epoch: int) -> bool:
    """Tell whether an epoch has a row in the table.

    Examples:
        >>> from calibrae.training._progress import has_row
        >>> [epoch for epoch in range(1, 301) if has_row(epoch)][18:]
        [19, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200, 300]
    """
    return epoch % (1 if epoch <= 20 else 10 if epoch <= 200 else 100) == 0


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
    """A live bar and a table with a row an epoch, on a terminal or in a notebook; the table alone, on standard error, elsewhere.

    Of a long run not every epoch has a row: all up to 20, each tenth up to 200, each hundredth beyond; `history.csv` has them all.

    Args:
        verbose: also tell what only those need who ask how it is done.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self.verbose = verbose
        self._bar: AbstractBar | None = None
        self._total = 0
        self._explained = False
        self._columns: list[Column] = []

    def start(self, total_steps: int, done: int) -> None:
        self._total, self._bar = total_steps, open_bar()
        if self._bar is not None:
            self._bar.show("", done, total_steps)

    def retarget(self, total_steps: int) -> None:
        self._total = total_steps

    def step(self, step: int, terms: Mapping[str, float]) -> None:
        if self._bar is not None:
            self._bar.show("", step, self._total, format_terms(terms))

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
        if not has_row(int(row["epoch"])):
            return
        cells = "".join(f"  {terms[name]:>{width}.{digits}f}" for name, _, width, digits in self._columns)
        self.say(f"{row['epoch']:>5.0f} {row['seconds']:>6.0f} s{cells}" + ("  best" if best else ""))

    def detail(self, text: str) -> None:
        if self.verbose:
            self.say(text)

    def say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
