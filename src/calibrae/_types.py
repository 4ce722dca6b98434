"""Shape aliases and plain records shared by every room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

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
Shared: TypeAlias = Literal["all", "channel", "element"]
SigmaChoice: TypeAlias = Literal["optimal", "learned"] | float
Split: TypeAlias = Literal["train", "validation", "test"]

SHARED: tuple[Shared, ...] = ("all", "channel", "element")


class Posterior(Protocol):
    """`q(z|x)` as the objectives see it."""

    is_density: ClassVar[bool]

    @property
    def mean(self) -> Tensor: ...


class Conditional(Protocol):
    """`p(x|z)` as the objectives see it."""

    def nll(self, x: Tensor) -> Tensor: ...


class Prior(Protocol):
    """`p(z)` as the objectives see it."""

    def kl(self, posterior: Any, z: Tensor) -> Tensor: ...


class ModelOutput(NamedTuple):
    """All that an objective may know of a model: the four parts of one forward pass.

    Attributes:
        posterior: `q(z|x)` of the batch.
        prior: `p(z)`.
        likelihood: `p(x|z)` at the sampled `z`.
        z: the sample, `[B, d]`.
    """

    posterior: Posterior
    prior: Prior
    likelihood: Conditional
    z: Tensor


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What a model and its numbers must know of the data that it is trained on.

    Attributes:
        data_shape: shape of one example, without the batch.
        levels: number of integer values an element can take, or `None` for continuous data.
        preparation: how stored values become what the model sees. `dequantise`: `(u + U[0, 1)) / levels`;
            `binarise`: a Bernoulli draw with mean `u / (levels - 1)`; `identity`: as they are.
        scale: one sentence on the scale of what the model sees.
        log_scale: `sum log c_i` over the elements, where model = (original - shift) / c. The log-density of the
            original data is the model's minus this.
    """

    data_shape: Shape
    levels: int | None = 256
    preparation: Literal["dequantise", "binarise", "identity"] = "dequantise"
    scale: str = "[0, 1]"
    log_scale: float = 0.0

    @property
    def data_dim(self) -> int:
        """`D`, the number of elements of one example."""
        size = 1
        for side in self.data_shape:
            size *= side
        return size

    @property
    def step(self) -> float | None:
        """Distance between neighbouring values on the model's scale; `None` for continuous data."""
        return 1.0 / self.levels if self.preparation == "dequantise" and self.levels else None

    @property
    def density_levels(self) -> int | None:
        """`levels` for bits per dimension: the density's cells per unit, 1 for data left discrete, `None` without any."""
        if self.levels is None:
            return None
        return self.levels if self.preparation == "dequantise" else 1
