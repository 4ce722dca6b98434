"""PyTorch's customs in modules of one's own: BatchNorm, Dropout, frozen and lazy layers, extra state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import calibrae as cb
from calibrae.errors import ArgumentError
from calibrae.training import EagerStep, Piece, PieceLoss

TABLE = np.random.default_rng(0).normal(size=(100, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
SHORT = {"batch_size": 16, "precision": "fp32", "compile": "off", "quiet": True, "pictures": False}


def own(middle: nn.Module | None = None, sigma: Any = "optimal", shared: Any = "all") -> cb.VAE:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 8), middle or nn.Identity(), nn.Tanh(), nn.Linear(8, 4))
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6))
    likelihood, prior = cb.GaussianLikelihood(sigma, shared), cb.StandardNormalPrior(2)
    return cb.VAE(encoder, decoder, likelihood, prior, posterior=cb.GaussianPosterior("log_var"))


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("acceleration", ["on", "off"])
@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_batch_norm_sees_every_piece_once(pieces, acceleration) -> None:
    """D3: the pass that computes an optimal scale leaves the running statistics alone, and so do trials and validation."""
    model = own(nn.BatchNorm1d(8))
    cb.fit(model, TABLE, epochs=1, micro_batches=pieces, acceleration=acceleration, **SHORT)
    assert int(model.encoder[1].num_batches_tracked) == pieces * (81 // 16)


class Recording(nn.Module):
    """Dropout that remembers its masks."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Tensor] = []

    def forward(self, h: Tensor) -> Tensor:
        mask = nn.functional.dropout(torch.ones_like(h), 0.5, training=self.training)
        self.masks.append(mask)
        return h * mask


@pytest.mark.parametrize("shared", ["all", "element"])
def test_dropout_draws_the_same_masks_in_both_passes(shared) -> None:
    """D3: or the held scale would not be the optimum of the residuals that the gradient is taken at."""
    model = own(Recording(), shared=shared).double()
    seen: list[tuple[Tensor, Tensor]] = []
    model.likelihood.register_forward_hook(
        lambda head, given, _: seen.append((given[0].detach(), head.scale.value.clone()))
    )
    x, eps = torch.randn(12, 6, dtype=torch.float64), torch.randn(1, 12, 2, dtype=torch.float64)
    pieces = [Piece(x[i : i + 4], None, None, None, eps[:, i : i + 4]) for i in (0, 4, 8)]
    EagerStep(PieceLoss(model, cb.BetaELBO()), [torch.optim.SGD(model.parameters(), lr=0.0)], 100)(pieces, 0)
    masks = model.encoder[1].masks
    assert len(masks) == 6
    for first, second in zip(masks[:3], masks[3:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(masks[0], masks[1])
    x_hat = torch.cat([mean for mean, _ in seen[3:]], 1)[0]
    expected = (x - x_hat).square().mean(() if shared == "all" else 0).sqrt()
    for _, scale in seen[3:]:
        torch.testing.assert_close(scale, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("sigma", ["optimal", "learned", 0.5])
def test_a_frozen_model_is_refused_in_one_line(sigma, tmp_path) -> None:
    """D8: also where a learned scale is all that could be trained."""
    model = own(sigma=sigma)
    for module in (model.encoder, model.decoder):
        module.requires_grad_(False)
    with pytest.raises(ArgumentError, match=r"every parameter of the networks is frozen .* nothing to train") as error:
        cb.fit(model, TABLE, tmp_path / "r", epochs=1, **SHORT)
    one_line(error)
    assert not (tmp_path / "r").exists()


def test_a_frozen_encoder_stays_and_the_rest_trains(tmp_path) -> None:
    model = own(nn.BatchNorm1d(8))
    model.encoder.requires_grad_(False).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cb.fit(model, TABLE, tmp_path / "r", epochs=1, **SHORT)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed >= {"decoder.0.weight", "decoder.2.bias"}
    assert not [name for name in changed if name.startswith("encoder")]


def test_a_lazy_layer_is_refused_in_one_line(tmp_path) -> None:
    """D8: its parameters have no shape, and so no optimiser and no description."""
    model = own()
    model.encoder[0] = nn.LazyLinear(8)
    with pytest.raises(
        ArgumentError, match=r"lazy module .* Run one batch through it first: model\.draw\(x\)"
    ) as error:
        cb.fit(model, TABLE, tmp_path / "r", epochs=1, **SHORT)
    one_line(error)
    assert not (tmp_path / "r").exists()
    model.draw(torch.zeros(4, 6))
    assert len(cb.fit(model, TABLE, tmp_path / "r", epochs=1, **SHORT).history) == 1


class Counting(nn.Module):
    """Keeps plain data of its own beside tensors, as quantised and tokenising modules do."""

    def __init__(self, state: Any = None) -> None:
        super().__init__()
        self.state = {"calls": 0, "names": ["a", "b"], "rate": 0.5} if state is None else state

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        self.state = state

    def forward(self, h: Tensor) -> Tensor:
        if self.training and isinstance(self.state, dict) and "calls" in self.state:
            self.state = {**self.state, "calls": self.state["calls"] + 1}
        return h


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_plain_extra_state_trains_is_stored_and_comes_back(tmp_path, ema_decay) -> None:
    """D4: through the checkpoints, the saved model and a resumed run."""
    model = own(Counting())
    run = cb.fit(model, TABLE, tmp_path / "r", epochs=1, ema_decay=ema_decay, acceleration="off", **SHORT)
    calls = model.encoder[1].state["calls"]
    assert calls == 81 // 16
    again = cb.load(run.path, model=own(Counting()))
    assert again.encoder[1].state == {"calls": calls, "names": ["a", "b"], "rate": 0.5}
    resumed = own(Counting())
    cb.fit(resumed, TABLE, tmp_path / "r", epochs=2, resume=True, **SHORT)
    assert resumed.encoder[1].state["calls"] == (2 if resumed_best(tmp_path) == 2 else 1) * (81 // 16)


def resumed_best(folder: Any) -> int:
    import json

    return int(json.loads((folder / "r" / "run.json").read_text())["selected_epoch"])


@pytest.mark.parametrize("state", [{"function": len}, {1, 2}, b"bytes", {"rate": float("nan")}], ids=str)
def test_extra_state_that_cannot_be_stored_is_refused_before_the_first_step(state, tmp_path) -> None:
    """D4: and not after the last epoch."""
    model = own(Counting(state))
    with pytest.raises(ArgumentError, match=r"`get_extra_state` .* plain data .* encoder\.1\._extra_state") as error:
        cb.fit(model, TABLE, tmp_path / "r", epochs=1, **SHORT)
    one_line(error)
    assert not (tmp_path / "r").exists()
