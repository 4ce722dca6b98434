"""Channels-last pictures, where a model takes them; torch's usual order afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import calibrae as cb
from calibrae.acceleration import AcceleratedStep, StepTrial, choose_layout, usual_layout_afterwards
from calibrae.training import EagerStep, Piece, PieceLoss, TrainSettings, build_optimisers


class Viewing(nn.Module):
    """Counts on the usual order of memory, as much code does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 2, 1)
        self.head = nn.Linear(8 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return self.head(h.view(len(h), -1))


class Asserting(Viewing):
    """Says what it counts on: its pictures, feature maps and weights in the usual order."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        assert x.is_contiguous()
        assert h.is_contiguous()
        assert self.conv.weight.is_contiguous()
        return self.head(h.flatten(1))


def flattening() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.Flatten(), nn.Linear(8 * 16, 4))


def model_of(encoder: nn.Module) -> cb.VAE:
    decoder = nn.Sequential(nn.Linear(2, 3 * 64), nn.Unflatten(1, (3, 8, 8)))
    likelihood, prior = cb.GaussianLikelihood("optimal"), cb.StandardNormalPrior(2)
    return cb.VAE(encoder, decoder, likelihood, prior, posterior=cb.GaussianPosterior("log_std"))


def trial_of(model: cb.VAE) -> StepTrial:
    loss = PieceLoss(model, model.objective)
    eager = EagerStep(loss, build_optimisers(model, TrainSettings()), 100, max_norm=1.0)
    piece = Piece(torch.rand(4, 3, 8, 8), None, None, None, torch.randn(1, 4, 2))
    return StepTrial(AcceleratedStep(eager, torch.device("cpu")), [piece])


def choose(trial: StepTrial) -> bool:
    loss = trial.step.eager.module

    def set_layout(order: torch.memory_format) -> None:
        loss.memory_format = order

    return choose_layout(trial, trial.pieces[0].values, set_layout)


def is_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_own_convolutions_are_arranged_and_give_the_same_numbers() -> None:
    torch.manual_seed(0)
    trial = trial_of(model_of(flattening()))
    loss, piece = trial.step.eager.module, trial.pieces[0]
    weights = trial.step.eager.weights(trial.pieces, 0)
    before, _ = loss(weights, *piece)
    assert choose(trial)
    assert loss.memory_format is torch.channels_last
    assert is_last(loss.prepared(piece.values, None))
    assert is_last(loss.model.encoder[0].weight)
    after, _ = loss(weights, *piece)
    torch.testing.assert_close(after, before)
    assert all(p.grad is None for p in loss.parameters())


@pytest.mark.parametrize("encoder", [Viewing, Asserting])
def test_a_module_that_counts_on_the_usual_order_is_left_alone(encoder) -> None:
    """Whatever it raises: torch's RuntimeError of a view, or an AssertionError of its own."""
    trial = trial_of(model_of(encoder()))
    loss = trial.step.eager.module
    assert not choose(trial)
    assert loss.prepared(trial.pieces[0].values, None).is_contiguous()
    assert loss.model.encoder.conv.weight.is_contiguous()
    trial()


def test_models_without_convolutions_are_left_alone() -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    preset = cb.build("sigma-vae", data_shape=(3, 8, 8), latent_dim=2, network="mlp")
    for model in (model_of(own), preset):
        trial = trial_of(model)
        assert not choose(trial)
        assert trial.step.eager.module.memory_format is torch.preserve_format


def test_the_usual_order_comes_back_whatever_happens() -> None:
    model = model_of(flattening())
    value = model.encoder[0].weight.detach().clone()

    def interrupted() -> None:
        with usual_layout_afterwards(model):
            assert choose(trial_of(model))
            assert is_last(model.encoder[0].weight)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert model.encoder[0].weight.is_contiguous()
    assert torch.equal(model.encoder[0].weight, value)


IMAGES = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
SHORT = {"epochs": 2, "quiet": True, "pictures": False, "precision": "fp32", "compile": "off"}


@pytest.mark.parametrize("encoder", [flattening, Viewing, Asserting])
def test_all_train_and_are_stored_and_read_again_in_the_usual_order(tmp_path, encoder) -> None:
    model = model_of(encoder())
    run = cb.fit(model, IMAGES, tmp_path / "run", **SHORT)
    assert all(p.is_contiguous() for p in model.parameters())
    torch.nn.utils.parameters_to_vector(model.parameters())  # which refuses any other order
    again = cb.load(run.path, model=model_of(encoder()))
    x = torch.rand(5, 3, 8, 8)
    torch.testing.assert_close(again.encode(x).mean, model.encode(x).mean)


def test_a_preset_with_convolutions_ends_in_the_usual_order(tmp_path) -> None:
    options = cb.NetworkOptions(width=4)
    model = cb.build("sigma-vae", data_shape=(3, 8, 8), latent_dim=2, network="conv", options=options)
    cb.fit(model, IMAGES, tmp_path / "run", **SHORT | {"epochs": 1})
    torch.nn.utils.parameters_to_vector(model.parameters())


def test_the_layout_changes_no_number_but_by_rounding(tmp_path) -> None:
    losses = []
    for choice in ("on", "off"):
        torch.manual_seed(0)
        run = cb.fit(model_of(flattening()), IMAGES, tmp_path / choice, acceleration=choice, **SHORT)
        losses.append([row["validation_loss"] for row in run.history])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
