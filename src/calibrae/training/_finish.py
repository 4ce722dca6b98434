"""The end of a run: the best weights, with their scale, are saved as the model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from ..errors import NonFiniteError
from ..models import VAE
from ..runs import save_model
from ._interrupt import OUT_OF_TIME

if TYPE_CHECKING:
    from ._trainer import Trainer


def finish(trainer: Trainer) -> None:
    """Take the best epoch's weights, fix the scale on the whole training set, and save the model.

    Raises:
        NonFiniteError: if a weight is not finite.
        Stopped: if no epoch was validated, because the time was over.
    """
    if not trainer.best.epoch:
        trainer.stop(OUT_OF_TIME)
    state, model = trainer.state, trainer.model
    model.load_state_dict(trainer.best.weights)
    trainer.kept = model
    trainer.validator().fix_scale(None)
    model.eval()
    require_finite(model)
    trainer.world.from_first(partial(save_model, model, trainer.keeper.folder))
    chosen = state.history[state.best_epoch - 1]
    elbo = f", ELBO {chosen['validation_elbo']:.2f}" if "validation_elbo" in chosen else ""
    trainer.reporter.say(
        f"kept epoch {state.best_epoch} of {state.epoch}: lowest validation loss {chosen['validation_loss']:.2f} nats{elbo}"
    )
    if trainer.halt.is_late and not trainer.is_done():
        trainer.reporter.say(
            f"out of time after {trainer.where()}; this model is the best so far. {trainer.how_to_go_on()}"
        )


def require_finite(model: VAE) -> None:
    """Raise `NonFiniteError` if a weight of a model that is to be kept is not finite."""
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    bad = [name for name, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]
    if bad:
        raise NonFiniteError(
            f"the weights of the best epoch are not finite ({', '.join(bad[:3])}), so no model was saved. Train with a lower --lr."
        )
