"""Channels-last pictures, where a model takes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import calibrae as cb
from calibrae.training import TrainSettings
from calibrae.training._descent import Descent
from calibrae.training._layout import choose_layout
from calibrae.training._optimiser import build_optimisers
from calibrae.training._terms import MicroBatch, StepTerms
from calibrae.training._trial import StepTrial


class Viewing(nn.Module):
    """Counts on the usual order of memory, as much code does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 2, 1)
        self.head = nn.Linear(8 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return self.head(h.view(len(h), -1))


def flattening() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.Flatten(), nn.Linear(8 * 16, 4))


def model_of(encoder: nn.Module) -> cb.VAE:
    decoder = nn.Sequential(nn.Linear(2, 3 * 64), nn.Unflatten(1, (3, 8, 8)))
    return cb.VAE(encoder, decoder, cb.GaussianLikelihood("optimal"), cb.StandardNormalPrior(2))


def trial_of(model: cb.VAE, channels: int = 3) -> StepTrial:
    batch = MicroBatch(torch.rand(4, channels, 8, 8), None, torch.randn(4, 2))
    return StepTrial(Descent(StepTerms(model), build_optimisers(model, TrainSettings()), limit=1.0), [batch])


def is_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_own_convolutions_are_arranged_and_give_the_same_numbers() -> None:
    torch.manual_seed(0)
    trial = trial_of(model_of(flattening()))
    weights = torch.tensor([1.0, 1.0])
    before, _ = trial.descent.terms(trial.micro[0], weights)
    choose_layout(trial)
    assert trial.descent.terms.channels_last
    assert is_last(trial.descent.terms.model.encoder[0].weight)
    after, _ = trial.descent.terms(trial.micro[0], weights)
    torch.testing.assert_close(after, before)
    assert all(p.grad is None for p in trial.descent.terms.parameters())


def test_a_module_that_counts_on_the_usual_order_is_left_alone() -> None:
    trial = trial_of(model_of(Viewing()))
    choose_layout(trial)
    assert not trial.descent.terms.channels_last
    assert trial.descent.terms.model.encoder.conv.weight.is_contiguous()
    trial()


def test_presets_grey_pictures_and_models_without_convolutions_are_left_alone() -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    preset = cb.build("sigma-vae", data_shape=(3, 8, 8), latent_dim=2)
    for model in (model_of(own), preset):
        trial = trial_of(model)
        choose_layout(trial)
        assert not trial.descent.terms.channels_last


@pytest.mark.parametrize("encoder", [flattening, Viewing])
def test_both_train_and_are_stored_and_read_again(tmp_path, encoder) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    model = model_of(encoder())
    run = cb.fit(model, images, tmp_path / "run", epochs=2, quiet=True, pictures=False)
    again = cb.load(run.path, model=model_of(encoder()))
    x = torch.rand(5, 3, 8, 8)
    torch.testing.assert_close(again.encode(x).mean, model.encode(x).mean)
