"""Training steps against the objective itself."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .._types import Batch
from ..acceleration import FusedStep
from ..data import Data
from ..models import VAE
from ..objectives import Objective
from ..training import EagerStep, Piece, PieceLoss, Pieces, TrainSettings

BATCH = 32
TOTAL_STEPS = 100


def assert_step_follows_objective(
    model: VAE,
    data: Data,
    objective: Objective | None = None,
    *,
    fused: bool = False,
    rtol: float = 1e-4,
) -> None:
    r"""Assert that a training step's gradient is that of the objective's mean loss in nats per data dimension.

    $$\nabla \frac{1}{N D} \sum_n \mathrm{loss}_n$$

    is taken by autograd from `objective(model.draw(...), weights)` itself, and compared with the gradients of the plain step, of the
    plain step with the batch in two pieces, and, if asked, of the fused step. The model is not changed.

    Args:
        model: any model; a copy is put into training mode.
        data: split and prepared as the model's; its first training examples are taken.
        objective: loss to minimise; by default the model's.
        fused: also compare the fused step, which takes a few seconds to trace.
        rtol: largest difference, relative to the largest entry of each gradient.

    Raises:
        AssertionError: if a gradient differs, naming the parameter.

    Examples:
        >>> data = cb.load_data("digits")
        >>> cb.testing.assert_step_follows_objective(build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2), data)
    """
    goal = objective or model.objective
    settings = TrainSettings(batch_size=min(BATCH, len(data.view("train"))))
    pieces = Pieces(data, settings, model.latent_dim, goal.samples).first()
    device = model.device
    (whole,) = (piece.to(device) for piece in pieces)
    expected = _of_objective(model, data, goal, whole)
    _compare("the plain step", _of_plain_step(model, data, goal, [whole]), expected, rtol)
    if not _mixes_examples(model):
        halves = _halves(whole)
        _compare("the plain step in two pieces", _of_plain_step(model, data, goal, halves), expected, rtol)
    if fused:
        _compare("the fused step", _of_fused_step(model, data, goal, whole), expected, rtol)


def _copy(model: VAE) -> VAE:
    copied = copy.deepcopy(model).train()
    copied.zero_grad(set_to_none=True)
    return copied


def _of_objective(model: VAE, data: Data, objective: Objective, piece: Piece) -> dict[str, Tensor]:
    copied = _copy(model)
    torch.manual_seed(0)
    has_bytes = piece.dequantisation_bytes is not None
    x = data.preparation(piece.values, piece.dequantisation_bytes) if has_bytes else piece.values
    draw = copied.draw(Batch(x, piece.context, piece.mask), objective.samples, piece.eps)
    terms = objective(draw, objective.schedule(0, TOTAL_STEPS))
    (terms.loss.mean() / x[0].numel()).backward()
    return _gradients(copied)


def _of_plain_step(model: VAE, data: Data, objective: Objective, pieces: Sequence[Piece]) -> dict[str, Tensor]:
    copied = _copy(model)
    optimiser = torch.optim.SGD([p for p in copied.parameters() if p.requires_grad], lr=0.0)
    step = EagerStep(PieceLoss(copied, objective, data.preparation), [optimiser], TOTAL_STEPS)
    torch.manual_seed(0)
    step(pieces, 0)
    return _gradients(copied)


def _of_fused_step(model: VAE, data: Data, objective: Objective, piece: Piece) -> dict[str, Tensor]:
    copied = _copy(model)
    optimiser = torch.optim.AdamW([p for p in copied.parameters() if p.requires_grad], lr=0.0)
    loss = PieceLoss(copied, objective, data.preparation)
    eager = EagerStep(loss, [optimiser], TOTAL_STEPS)
    fused = FusedStep(loss, [optimiser], 0.0, eager.autocast, copied.device, backend="aot_eager")
    torch.manual_seed(0)
    fused(eager.weights([piece], 0), *piece)
    kept = 1.0 - optimiser.param_groups[0]["betas"][0]  # the first running mean holds this share of the gradient
    for parameter in copied.parameters():
        if parameter in optimiser.state:
            parameter.grad = optimiser.state[parameter]["exp_avg"] / kept
    return _gradients(copied)


def _halves(piece: Piece) -> list[Piece]:
    """A batch in two pieces."""
    cut = len(piece.values) // 2
    parts = []
    for rows in (slice(None, cut), slice(cut, None)):
        first = [None if tensor is None else tensor[rows] for tensor in piece[:-1]]
        parts.append(Piece(*first, piece.eps[:, rows]))  # type: ignore[arg-type, call-arg]
    return parts


def _mixes_examples(model: nn.Module) -> bool:
    """Tell whether a module looks at the whole batch, or draws random numbers, so that pieces are another computation."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    return any(isinstance(module, kinds) and module.training for module in model.modules())


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}


def _compare(who: str, found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float) -> None:
    names = {name for name, gradient in expected.items() if bool(gradient.any())}
    missing = sorted(name for name in names if name not in found)
    assert not missing, f"{who} gives no gradient to {', '.join(missing)}, which the objective has"
    for name, gradient in found.items():
        if gradient.numel() == 0:  # as of an encoder without constant features
            continue
        truth = expected.get(name, torch.zeros_like(gradient))
        largest = float(torch.maximum(truth.abs().max(), gradient.abs().max()))
        difference = float((gradient - truth).abs().max())
        assert difference <= rtol * largest, (
            f"{who}: the gradient of {name} differs from the objective's by {difference:.3g} (largest entry {largest:.3g})"
        )
