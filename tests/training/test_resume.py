"""A run that stops after some epochs and goes on ends, bit for bit, where an unbroken one does; and only as the same run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import calibrae as cb
from calibrae.errors import RunError

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 100)
IMAGES = (RNG.integers(0, 90, (100, 1, 4, 4)) + 40 * LABELS[:, None, None, None]).astype(np.uint8)


def build(**parts: Any) -> cb.VAE:
    made: dict[str, Any] = {"latent_dim": 3, "network": "mlp", "options": cb.NetworkOptions(hidden=(16,))}
    return cb.build("sigma-vae", data_shape=(1, 4, 4), **made | parts)


def fit(model: cb.VAE, out: Path, **settings: Any) -> cb.Run:
    given: dict[str, Any] = {"epochs": 3, "batch_size": 16, "precision": "fp32", "compile": "off", "quiet": True}
    return cb.fit(model, IMAGES, out, **given | {"pictures": False} | settings)


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mixture prior": ({"prior": "mixture:components=3"}, {}),
    "laplace, learned": ({"likelihood": "laplace", "sigma": "learned", "sigma_shared": "element"}, {}),
    "iwae": ({"objective": "iwae:samples=4"}, {}),
    "gaussian per example": ({"likelihood": "gaussian-per-example"}, {}),
    "condition": ({"context_dim": 3, "prior": "conditional-gaussian"}, {"condition": LABELS}),
    "warm-up, average, pieces": ({}, {"kl_warmup": 0.7, "beta": 3.0, "ema_decay": 0.9, "micro_batches": 2}),
}


@pytest.mark.parametrize("stop_after", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_where_an_unbroken_run_does(tmp_path, kind, stop_after) -> None:
    parts, settings = KINDS[kind]
    torch.manual_seed(0)
    whole = fit(build(**parts), tmp_path / "whole", **settings)
    torch.manual_seed(0)
    cut = fit(build(**parts), tmp_path / "cut", stop_after=stop_after, **settings)
    assert len(cut.history) == stop_after
    torch.manual_seed(9)
    resumed = fit(build(**parts), tmp_path / "cut", resume=True, **settings)
    assert resumed.model.state_dict().keys() == whole.model.state_dict().keys()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    drop = "seconds"
    for ours, theirs in zip(resumed.history, whole.history, strict=True):
        assert {k: v for k, v in ours.items() if k != drop} == {k: v for k, v in theirs.items() if k != drop}
    assert cb.load(tmp_path / "cut").config == whole.model.config


def test_what_was_asked_for_need_not_be_asked_for_again(tmp_path) -> None:
    """Objective, settings and condition are those of the run."""
    torch.manual_seed(0)
    settings = {"beta": 3.0, "lr": 1e-2, "condition": LABELS}
    whole = fit(build(context_dim=3), tmp_path / "whole", **settings)
    torch.manual_seed(0)
    fit(build(context_dim=3), tmp_path / "cut", stop_after=1, **settings)
    resumed = cb.fit(
        build(context_dim=3), IMAGES, tmp_path / "cut", condition=LABELS, resume=True, quiet=True, pictures=False
    )
    assert [row["validation_loss"] for row in resumed.history] == [row["validation_loss"] for row in whole.history]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after its first epoch."""
    return fit(build(), tmp_path_factory.mktemp("resume") / "r", stop_after=1).path


@pytest.mark.parametrize(
    ("parts", "difference"),
    [
        ({"options": cb.NetworkOptions(hidden=(16,), activation="tanh")}, r"options was .*'activation': 'silu'.*, now .*'activation': 'tanh'"),
        ({"latent_dim": 2}, r"latent_dim was 3, now 2"),
        ({"objective": "iwae:samples=4"}, r"objective was \{'name': 'beta-elbo'\}, now \{'name': 'iwae', 'samples': 4\}"),
        ({"likelihood": "laplace"}, r"likelihood was .*gaussian.*, now .*laplace"),
        ({"prior": "mixture:components=2"}, r"prior was .*standard-normal.*, now .*mixture"),
        ({"network": "linear"}, r"network was mlp, now linear"),
    ],
    ids=["activation", "latent_dim", "objective", "likelihood", "prior", "network"],
)  # fmt: skip
def test_another_model_is_refused_by_the_name_of_its_difference(run, parts, difference) -> None:
    """B3: also one that fits in shape."""
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with pytest.raises(RunError, match=rf"a resumed run keeps its model; got {difference}") as error:
        fit(build(**parts), run, resume=True)
    assert "\n" not in str(error.value)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("given", [{"objective": cb.IWAE(4)}, {"beta": 2.0}, {"kl_warmup": 0.5}], ids=str)
def test_another_objective_is_refused(run, given) -> None:
    with pytest.raises(
        RunError, match=r"keeps its objective, \{'name': 'beta-elbo'\}; got \{'name': '(iwae|beta-elbo)'"
    ):
        fit(build(), run, resume=True, **given)


def own(activation: Callable[[], nn.Module] = nn.Tanh, width: int = 8) -> cb.VAE:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, width), activation(), nn.Linear(width, 6))
    decoder = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, (1, 4, 4)))
    likelihood, prior = cb.GaussianLikelihood("optimal"), cb.StandardNormalPrior(3)
    return cb.VAE(encoder, decoder, likelihood, prior, posterior=cb.GaussianPosterior("log_var"))


def test_own_modules_of_other_classes_or_sizes_are_refused(tmp_path) -> None:
    fit(own(), tmp_path / "r", stop_after=1)
    for other in (own(nn.ReLU), own(width=9)):
        with pytest.raises(RunError, match="another architecture of own modules"):
            fit(other, tmp_path / "r", resume=True)
    with pytest.raises(RunError, match=r"a resumed run keeps its model; got .*name was own modules, now sigma-vae"):
        fit(build(), tmp_path / "r", resume=True)
    assert len(fit(own(), tmp_path / "r", resume=True).history) == 3


class Halved(cb.Objective):
    """An objective that is not registered."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def __call__(self, draw: cb.Draw, weights: Any) -> cb.Terms:
        nll = draw.nll.mean(0)
        return cb.Terms(nll + self.share * draw.kl, {"nll": nll, "kl": draw.kl})


def test_an_objective_of_ones_own_is_asked_for_and_compared(tmp_path) -> None:
    fit(build(), tmp_path / "r", stop_after=1, objective=Halved())
    with pytest.raises(RunError, match="trained with the objective Halved; pass one"):
        fit(build(), tmp_path / "r", resume=True)
    with pytest.raises(RunError, match=r"keeps its objective, .*'share': 0\.5.*; got .*'share': 0\.25"):
        fit(build(), tmp_path / "r", resume=True, objective=Halved(0.25))
    assert len(fit(build(), tmp_path / "r", resume=True, objective=Halved()).history) == 3


class Noisy(torch.utils.data.Dataset[torch.Tensor]):
    """Items that change from read to read, as those with random transforms do."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> torch.Tensor:
        return float(index % 7) + torch.randn(1, 4, 4)


def test_items_that_change_are_gone_on_with_as_they_were_kept(tmp_path) -> None:
    """B6: the first reading is what the run was trained on."""
    given: dict[str, Any] = {"quiet": True, "pictures": False, "precision": "fp32", "compile": "off"}
    first = cb.fit(build(), Noisy(), tmp_path / "r", epochs=1, options=cb.DataOptions(standardise=True), **given)
    with pytest.raises(
        RunError, match=r"have changed since .* Pass None as the data to go on with those that were kept"
    ):
        cb.fit(build(), Noisy(), tmp_path / "r", epochs=2, resume=True, **given)
    again = cb.fit(build(), None, tmp_path / "r", epochs=2, resume=True, **given)
    assert again.history[0] == first.history[0]
    assert again.data.source.fingerprint == first.data.source.fingerprint
