"""Compiled terms are those of the model, and compiling is chosen by what it saves."""

import numpy as np
import pytest
import torch

import calibrae as cb
from calibrae.data import byte_source, load_data
from calibrae.training import TrainSettings, _whole_step
from calibrae.training import _trial as trial
from calibrae.training._descent import Descent
from calibrae.training._optimiser import build_optimisers
from calibrae.training._terms import MicroBatch, StepTerms


@pytest.fixture
def terms():
    torch.manual_seed(0)
    return StepTerms(cb.build("sigma-vae", data_shape=(3, 4), latent_dim=2, network="mlp"))


pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, when it compiles
X, NOISE = torch.rand(8, 3, 4), torch.randn(8, 2)
BATCH = MicroBatch(X, None, NOISE)
WEIGHTS = torch.tensor([1.0, 2.0])


@pytest.fixture
def descent(terms):
    return Descent(terms, build_optimisers(terms.model, TrainSettings()), limit=1.0)


def choose(descent, steps=100_000, **settings):
    return trial.choose_compile(TrainSettings(**settings), trial.StepTrial(descent, [BATCH]), steps)


@pytest.mark.parametrize("sigma", ["optimal", "learned", 0.3])
@pytest.mark.parametrize("shared", ["all", "element"])
def test_terms_are_those_of_the_elbo(sigma, shared):
    model = cb.build("sigma-vae", data_shape=(3, 4), latent_dim=2, network="mlp", sigma=sigma, sigma_shared=shared)
    loss, (nll, kl, sse) = StepTerms(model)(BATCH, WEIGHTS)
    expected = model.elbo(X, NOISE)
    torch.testing.assert_close(nll, expected.nll.sum())
    torch.testing.assert_close(kl, expected.kl.sum())
    torch.testing.assert_close(sse, (X - model(X, NOISE).likelihood.mean).square().sum())
    torch.testing.assert_close(loss, nll + 2.0 * kl)


def test_stored_bytes_are_prepared_in_the_step():
    data = load_data(np.random.default_rng(0).integers(0, 256, (40, 3, 4), dtype=np.uint8))
    model = cb.build("sigma-vae", data_shape=(1, 3, 4), latent_dim=2, network="mlp")
    order = np.arange(8)
    values, bits = next(data.stored_batches(order, 8, torch.Generator(), byte_source(1)))
    x = data.preparation(values, bits)
    assert values.dtype == bits.dtype == torch.uint8
    terms = StepTerms(model, data.preparation)
    stored, prepared = (terms(MicroBatch(*parts, NOISE), WEIGHTS) for parts in ((values, bits), (x, None)))
    torch.testing.assert_close(stored, prepared, rtol=0, atol=0)


def test_a_compiler_that_fails_is_left_with_a_word(descent, monkeypatch):
    def failing(*_, **__):
        def run(*_):
            raise RuntimeError("no C++ compiler found")

        return run

    monkeypatch.setattr(torch, "compile", failing)
    monkeypatch.setattr(trial, "_medians", lambda steps, _: [(step(), 1.0)[1] for step in steps])
    assert choose(descent) == "not compiled (the compiler failed: no C++ compiler found)"
    assert not descent.is_compiled


def test_what_the_model_itself_raises_is_raised(terms):
    terms.compile_terms()
    with pytest.raises(cb.errors.ShapeError, match="noise"):
        terms(BATCH._replace(noise=torch.randn(8, 3)), WEIGHTS)


def test_short_runs_are_not_compiled(descent):
    assert "too short" in choose(descent, steps=1000)
    assert "cannot repay" in choose(descent, steps=10)
    assert choose(descent, compile="off") == "not compiled (as asked)"
    assert not descent.is_compiled


@pytest.mark.parametrize(("compiled", "kept"), [(0.5, True), (0.98, False), (2.0, False)])
def test_the_faster_one_is_kept(descent, monkeypatch, compiled, kept):
    monkeypatch.setattr(_whole_step, "compile_alone", lambda function, **_: function)
    monkeypatch.setattr(trial, "_medians", lambda steps, _: [1.0, compiled][: len(steps)])
    message = choose(descent)
    assert descent.is_compiled == kept
    assert message.startswith("compiled (measured: 500 ms" if kept else "not compiled (measured:")


@pytest.mark.parametrize(("choice", "said"), [("auto", "too short"), ("on", "compiled (as asked)")])
def test_a_trial_leaves_no_trace(descent, monkeypatch, choice, said):
    monkeypatch.setattr(_whole_step, "compile_alone", lambda function, **_: function)
    model = descent.terms.model
    model.encoder.register_buffer("count", torch.zeros(()))
    model.encoder.register_forward_pre_hook(lambda module, _: (module.count.add_(torch.rand(()) + 1), None)[1])
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert said in choose(descent, steps=1000, compile=choice)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(optimiser.state for optimiser in descent.optimisers)
    assert [group["lr"] for optimiser in descent.optimisers for group in optimiser.param_groups] == [4e-3, 4e-3]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_trial_whose_gradient_is_not_finite_leaves_the_weights(terms):
    """A rate of zero alone would not: zero times what is not a number is none either."""
    weights = {name: value.clone() for name, value in terms.state_dict().items()}
    descent = Descent(terms, build_optimisers(terms.model, TrainSettings()), limit=0.0)
    handle = next(terms.model.decoder.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    with descent.undisturbed():
        descent([BATCH], cb.BetaELBO(), 0)
        assert not all(value.isfinite().all() for value in terms.state_dict().values())
    handle.remove()
    assert all(torch.equal(value, weights[name]) for name, value in terms.state_dict().items())


@pytest.mark.parametrize("choice", ["auto", "on"])
def test_a_first_step_that_is_not_finite_is_left_to_training(descent, choice, monkeypatch):
    monkeypatch.setattr(_whole_step, "compile_alone", lambda function, **_: function)
    step = trial.StepTrial(descent, [BATCH._replace(values=torch.full_like(X, torch.inf))])
    message = trial.choose_compile(TrainSettings(compile=choice), step, 100_000)
    assert message == "not compiled (a first step is not finite)"
    assert not descent.is_compiled
