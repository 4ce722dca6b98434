"""Heads that read a decoder's output as `p(x|z)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn
from torch.distributions import Distribution

from .. import functional
from .._types import Shape, Support
from ..errors import ShapeError
from ._scale import Scale


class InputLayer(nn.Module, ABC):
    """Layer that turns examples into the features that an encoder sees, where these are not the standardised data themselves.

    Args:
        width: number of features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Features `[B, width]` of examples `[B, *data]`."""


class Likelihood(nn.Module, ABC):
    """Reads decoder outputs as `p(x|z)`. Derive from it and write `forward`; everything else has a default.

    Attributes:
        support: values that the data may take: `real`, `unit` ([0, 1]), `binary`, `count`, `levels` (0 to levels - 1), or
            `columns`, each of its own type. Data are prepared for it: integers are dequantised for a density and left as they are
            for probabilities.
        is_density: whether `log_prob` is a log density (of real data) or a log probability (of discrete data).
        takes_missing: whether an element may be missing (NaN), and then counts nothing.
        has_mean: whether the mean of `p(x|z)` is a reconstruction whose squared error says something: not of categories.
        scale: `Scale` of the density, or `None` if it has none that all examples share.
        data_shape: shape of one example; known once the model is composed, or the data are seen.

    Examples:
        >>> class LaplaceOne(cb.Likelihood):
        ...     def forward(self, output):
        ...         laplace = torch.distributions.Laplace(output, 1.0, validate_args=False)
        ...         return torch.distributions.Independent(laplace, len(self.data_shape), validate_args=False)
        >>> model = build("vae", data_shape=(4,), latent_dim=2, likelihood=LaplaceOne())
        >>> model.elbo(torch.zeros(3, 4)).nll.shape
        torch.Size([3])
    """

    kind: ClassVar[str] = "likelihood"
    support: Support = "real"
    is_density: bool = True
    takes_missing: bool = False
    has_mean: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.scale: Scale | None = None
        self._data_shape: Shape | None = None

    @abstractmethod
    def forward(self, output: Tensor) -> Distribution:
        """Distribution of the data, with the event `data_shape`, from the decoder's output `[*S, *output_shape]`."""

    def output_shape(self, data_shape: Shape) -> Shape:
        """Shape that the decoder must give for one example; that of the data unless the density needs more."""
        return tuple(data_shape)

    @property
    def data_shape(self) -> Shape:
        """Shape of one example.

        Raises:
            ShapeError: if it is not known yet.
        """
        if self._data_shape is None:
            raise ShapeError("this likelihood does not know the shape of the data yet. Call `set_data_shape(shape)`.")
        return self._data_shape

    @property
    def knows_data_shape(self) -> bool:
        """Tell whether `data_shape` is known."""
        return self._data_shape is not None

    def set_data_shape(self, data_shape: Shape) -> None:
        """Take the shape of one example.

        Raises:
            ShapeError: if the likelihood belongs to data of another shape already.
        """
        shape = tuple(data_shape)
        if self._data_shape not in (None, shape):
            raise ShapeError(
                f"this likelihood belongs to data of shape {self._data_shape}; got {shape}. Build a new one."
            )
        self._data_shape = shape
        if self.scale is not None:
            self.scale.set_data_shape(shape)

    def set_step(self, step: float | None) -> None:
        """Take the distance between neighbouring values of the data, `None` for continuous ones; a floor may follow from it."""
        if self.scale is not None:
            self.scale.set_step(step)

    def output_init(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor] | None:
        """Shift `[*output_shape]` and scale of the decoder's output at which it starts, from the data's mean and deviation.

        Args:
            mean: mean of each element, `[*data]`.
            std: root mean square deviation from it over all elements, `[]`.

        Returns:
            The shift and the scale, a tensor that broadcasts over it; `None` to leave the output as it is.
        """
        return mean, std

    def input_layer(self) -> InputLayer | None:
        """Layer that a preset's encoder begins with; `None` for one that standardises the data."""
        return None

    def baseline(self, spectrum: functional.Spectrum, latent_dim: int) -> functional.PPCA | None:
        """Closed-form model of the same data that a trained one has to beat: probabilistic PCA for any density of real data.

        Args:
            spectrum: mean, leading eigenpairs and trace of the training data's covariance.
            latent_dim: `d`.

        Returns:
            The model, or `None` where there is no closed form to compare with.
        """
        if not (self.is_density and self.support in ("real", "unit")):
            return None
        return spectrum.ppca(latent_dim)
