"""Shape aliases and plain records shared by every room."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final, get_args

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float as Float
else:
    try:
        from jaxtyping import Float
    except ModuleNotFoundError:  # the shapes are documentation at run time: only the tests enforce them

        class Float:
            """Stand-in whose every subscript is a plain tensor."""

            def __class_getitem__(cls, _: object) -> type[Tensor]:
                return Tensor


Shape: TypeAlias = tuple[int, ...]
Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
Shared: TypeAlias = Literal["all", "channel", "element"]
ScaleChoice: TypeAlias = Literal["optimal", "learned"] | float
Split: TypeAlias = Literal["train", "validation", "test"]
AnySplit: TypeAlias = Literal["train", "validation", "test", "all"]
Support: TypeAlias = Literal["real", "unit", "binary", "count", "levels", "columns"]
PreparationName: TypeAlias = Literal["dequantise", "binarise", "integers", "identity"]

SHARED: tuple[Shared, ...] = ("all", "channel", "element")


@dataclass(frozen=True)
class Batch:
    """Examples and all that belongs to them, on the way from the data to the objective.

    Attributes:
        x: examples, `[B, *data]`.
        context: condition of encoder, decoder and prior, `[B, context_dim]`, or `None`.
        mask: observed elements of `x`, `[B, *data]`, or `None` if all were.
        index: position of each example in its split, `[B]`, or `None` if they have none.
    """

    x: Tensor
    context: Tensor | None = None
    mask: Tensor | None = None
    index: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[Tensor | None]:
        """Iterate as a pair, positions and examples: `for index, x in data.batches("test", 512)`."""
        return iter((self.index, self.x))

    def to(self, device: torch.device) -> Batch:
        """Move the examples and their context to a device; positions stay in main memory.

        Examples:
            >>> Batch(torch.zeros(2, 3)).to(torch.device("cpu")).x.shape
            torch.Size([2, 3])
        """
        return Batch(self.x.to(device), moved(self.context, device), moved(self.mask, device), self.index)

    def rows(self, rows: slice) -> Batch:
        """Some of the examples."""
        parts = (None if part is None else part[rows] for part in (self.context, self.mask, self.index))
        return Batch(self.x[rows], *parts)

    def followed_by(self, other: Batch) -> Batch:
        """These examples, then those of another batch; what one of them lacks is left out."""

        def joined(one: Tensor | None, two: Tensor | None) -> Tensor | None:
            return None if one is None or two is None else torch.cat([one, two])

        rest = ((self.context, other.context), (self.mask, other.mask), (self.index, other.index))
        return Batch(torch.cat([self.x, other.x]), *(joined(*pair) for pair in rest))


def moved(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    """Move a tensor to a device, if there is one; from pinned memory without waiting.

    Examples:
        >>> moved(None, torch.device("cpu")) is None
        True
    """
    return None if tensor is None else tensor.to(device, non_blocking=device.type == "cuda")


def _own(tensor: Tensor) -> Tensor:
    return tensor


def _made(make: Callable[[], Any]) -> Any:
    return make()


@dataclass(frozen=True, slots=True)
class World:
    """The processes that share the work. Every sum over examples goes through `sum`.

    Attributes:
        rank: number of this process.
        size: number of processes.
        sum: from this process's sum, a tensor, to the sum over all processes.
        from_first: from a function to what it makes in the first process, for all of them; its error too.
        rows: from this process's rows of a tensor to those of all, one process after the other.

    Examples:
        >>> World().sum(torch.ones(2))
        tensor([1., 1.])
        >>> World(rank=1, size=3).part(10)
        slice(3, 6, None)
    """

    rank: int = 0
    size: int = 1
    sum: Callable[[Tensor], Tensor] = _own
    from_first: Callable[[Callable[[], Any]], Any] = _made
    rows: Callable[[Tensor], Tensor] = _own

    @property
    def is_first(self) -> bool:
        """Tell whether this process times, decides, saves and prints."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This process's share of so many examples; all shares together are all of them, once."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def over(self, count: int) -> World:
        """The processes that share so many examples: each alone, with all of them, where there are fewer than processes.

        Examples:
            >>> World(rank=1, size=3).over(2) == World()
            True
        """
        return self if count >= self.size else World()


ALONE = World()  # one process, which has all the work


Head: TypeAlias = Literal[
    "gaussian", "student-t", "poisson", "negative-binomial", "ordinal", "categorical", "bernoulli", "hurdle"
]
HEADS: tuple[Head, ...] = get_args(Head)


@dataclass(frozen=True, slots=True)
class ColumnModel:
    """What a likelihood of mixed columns must know of one column: its family, its scale, and its distribution in training.

    Attributes:
        name: name of the column.
        head: family of distributions: `gaussian` on a monotone transform, `student-t`, `poisson`, `negative-binomial`, `ordinal`,
            `categorical`, `bernoulli`, or `hurdle`: one value that many rows share, and a Gaussian for the others.
        scale: a number's value on the model's scale is its value in the table, minus a shift, divided by this.
        is_positive: whether the transform begins with a logarithm.
        knots: points of the transform, on the model's scale (of its logarithm where `is_positive`).
        scores: normal scores at these points.
        shares: shares of the levels in training; for a hurdle the share of the other values.
        atom: value on the model's scale that many rows share, of a hurdle.
        mean: mean in training, of counts.
        variance: variance in training, of counts.
        missing: share of the cells that were missing in training.
    """

    name: str
    head: Head
    scale: float = 1.0
    is_positive: bool = False
    knots: tuple[float, ...] = (0.0, 1.0)
    scores: tuple[float, ...] = (0.0, 1.0)
    shares: tuple[float, ...] = ()
    atom: float = 0.0
    mean: float = 0.0
    variance: float = 1.0
    missing: float = 0.0

    @property
    def is_density(self) -> bool:
        """Tell whether the column has a density, or probabilities."""
        return self.head in ("gaussian", "student-t", "hurdle")


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Shape, levels and scale of the data that a model sees.

    Attributes:
        data_shape: shape of one example, without the batch.
        levels: number of integer values an element can take, or `None` for continuous data.
        preparation: how stored values become what the model sees. `dequantise`: `(u + U[0, 1)) / levels`;
            `binarise`: a Bernoulli draw with mean `u / (levels - 1)`; `integers`: `u` itself, for probabilities of integers;
            `identity`: float data as they are.
        scale: one sentence on the scale of what the model sees.
        log_scale: `sum log c_i` over the elements, where model = (original - shift) / c. The log-density of the
            original data is the model's minus this.
        log_cells: `sum log(c_i / step_i)` over the elements of a table whose columns all have steps: the log-probability of a row is
            the model's log-density minus this; `None` for other data.
        least_step: distance of neighbouring values, on the model's scale, of few values that are not dequantised; `None` for others.
        columns: models of the columns of a table of several types, or with missing cells; empty for other data.
    """

    data_shape: Shape
    levels: int | None = 256
    preparation: PreparationName = "dequantise"
    scale: str = "[0, 1]"
    log_scale: float = 0.0
    log_cells: float | None = None
    least_step: float | None = None
    columns: tuple[ColumnModel, ...] = ()

    @property
    def data_dim(self) -> int:
        """Number of elements of one example, `D`."""
        return math.prod(self.data_shape)

    @property
    def step(self) -> float | None:
        """Distance between neighbouring values on the model's scale, of which sigma's floor follows; `None` for continuous data."""
        return 1.0 / self.levels if self.preparation == "dequantise" and self.levels else self.least_step

    @property
    def density_levels(self) -> float | None:
        """Levels for bits per dimension: cells per unit of a density (their geometric mean), 1 for data left discrete.

        `None` for continuous data.
        """
        if self.levels is None:
            return None if self.log_cells is None else math.exp(self.log_cells / self.data_dim)
        return self.levels if self.preparation == "dequantise" else 1


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a loss or of a trained model, or one thing worth knowing.

    Attributes:
        code: fixed name, such as `kl-wrong-sign` or `posterior-collapse`.
        severity: `error`: a formula is not what it claims to be, or numbers and samples are not usable; `warning`: something may
            break, or better is to be had; `note`: worth knowing.
        message: measured facts, as a sentence; an audit's, which go on in a longer one, have no full stop.
        remedy: advice, as a whole sentence.
    """

    code: str
    severity: Severity
    message: str
    remedy: str
