"""The three choices of a scale: the batch's optimum, fixing it, its floor."""

import copy
import math

import pytest
import torch
from torch.distributions import Laplace, Normal

import calibrae as cb
from calibrae import functional as F
from calibrae.errors import ArgumentError, ScaleNotFixedError, ShapeError
from calibrae.likelihoods import nll_per_element, squared_error
from calibrae.likelihoods._scale import FixedScale

generator = torch.Generator().manual_seed(0)
X, X_HAT = (torch.randn(8, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
SHARED = ("all", "channel", "element")
KINDS = {"gaussian": (cb.GaussianLikelihood, Normal, 2), "laplace": (cb.LaplaceLikelihood, Laplace, 1)}


def made(kind, choice="optimal", shared="all", **options):
    likelihood = KINDS[kind][0](choice, shared, **options)
    likelihood.set_data_shape((3, 4))
    return likelihood


def spread(value, shared):
    """The scale, written out over the data dimensions."""
    return value[:, None] if shared == "channel" else value


def nll(likelihood, x_hat, x=X):
    return -likelihood(x_hat).log_prob(x)


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("kind", KINDS)
def test_training_uses_the_batchs_own_statistic(kind, shared):
    """The root mean square for a Gaussian, the mean absolute residual for a Laplace density."""
    _, density, power = KINDS[kind]
    dims = {"all": (0, 1, 2), "channel": (0, 2), "element": (0,)}[shared]
    star = (X - X_HAT).abs().pow(power).mean(dims).pow(1 / power)
    expected = -density(X_HAT, spread(star, shared)).log_prob(X)
    likelihood = made(kind, shared=shared)
    torch.testing.assert_close(nll(likelihood, X_HAT), expected.sum((1, 2)))
    torch.testing.assert_close(nll_per_element(likelihood(X_HAT), X), expected)
    torch.testing.assert_close(squared_error(likelihood(X_HAT), X), (X - X_HAT).square().sum((1, 2)))


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("kind", KINDS)
def test_the_batchs_statistic_minimises_the_nll(kind, shared):
    """Newton's method on the NLL of torch's density, entry by entry, finds the same scale."""
    _, density, _ = KINDS[kind]
    log_scale = torch.zeros({"all": (), "channel": (3,), "element": (3, 4)}[shared], dtype=torch.float64)
    log_scale.requires_grad_()
    optimiser = torch.optim.LBFGS([log_scale], max_iter=200, tolerance_grad=1e-12, tolerance_change=0.0)

    def total():
        optimiser.zero_grad()
        value = -density(X_HAT, spread(log_scale.exp(), shared)).log_prob(X).sum()
        value.backward()
        return value

    optimiser.step(total)
    torch.testing.assert_close(nll(made(kind, shared=shared), X_HAT).sum(), total().detach(), rtol=1e-12, atol=0.0)
    found = F.optimal_scale(X, X_HAT, shared, KINDS[kind][2])
    torch.testing.assert_close(found, log_scale.detach().exp(), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_statistic_is_over_all_samples_of_a_batch(kind):
    """With `K` samples of `z` one scale serves all `[K, B]`, as one loss is descended."""
    _, density, power = KINDS[kind]
    many = torch.stack([X_HAT, 2.0 * X_HAT])
    star = (X - many).abs().pow(power).mean().pow(1 / power)
    expected = -density(many, star).log_prob(X).sum((2, 3))
    torch.testing.assert_close(nll(made(kind), many), expected)


def test_the_profile_has_the_gradient_of_the_log_mse():
    x_hat = X_HAT.clone().requires_grad_()
    nll(made("gaussian"), x_hat).mean().backward()
    other = X_HAT.clone().requires_grad_()
    (0.5 * 12 * torch.log((X - other).square().mean())).backward()
    torch.testing.assert_close(x_hat.grad, other.grad)


def test_the_laplace_profile_has_the_gradient_of_the_log_mean_absolute_error():
    x_hat = X_HAT.clone().requires_grad_()
    nll(made("laplace"), x_hat).mean().backward()
    other = X_HAT.clone().requires_grad_()
    (12 * torch.log((X - other).abs().mean())).backward()
    torch.testing.assert_close(x_hat.grad, other.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluating_a_scale_that_is_not_fixed_says_what_to_do(kind):
    likelihood = made(kind).eval()
    with pytest.raises(ScaleNotFixedError, match=r"fixed on the training set.*cb\.fix_scale"):
        likelihood(X_HAT)
    px = likelihood.train()(X_HAT)
    for use in (px.sample, px.rsample, lambda: px.stddev, lambda: px.variance):
        with pytest.raises(ScaleNotFixedError, match="fixed on the training set"):
            use()
    assert torch.equal(px.mean, X_HAT)


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fixed_scale_does_not_look_at_what_it_scores(kind, shared):
    likelihood = made(kind, shared=shared).eval()
    value = torch.rand(likelihood.scale.shape) + 0.2
    likelihood.scale.fix(value)
    assert likelihood.scale.is_fixed
    wide = spread(value.double(), shared)
    for x in (X, 3.0 * X):
        expected = -KINDS[kind][1](X_HAT, wide).log_prob(x).sum((1, 2))
        torch.testing.assert_close(nll(likelihood, X_HAT, x), expected, rtol=1e-6, atol=1e-6)


def test_training_forgets_a_fixed_scale():
    likelihood = made("gaussian").eval()
    likelihood.scale.fix(torch.tensor(0.5))
    likelihood.eval()
    assert likelihood.scale.is_fixed  # eval to eval keeps it
    likelihood.train()
    assert not likelihood.scale.is_fixed
    with pytest.raises(ScaleNotFixedError):
        likelihood.eval()(X_HAT)


def test_a_scale_fixed_in_training_mode_is_forgotten_by_the_next_batch():
    """As when a loop fixes it each epoch for an evaluation, and then trains on without a call of `train()`."""
    likelihood = made("gaussian")
    likelihood.scale.fix(torch.tensor(0.01))
    star = F.optimal_sigma(X, X_HAT)
    torch.testing.assert_close(nll(likelihood, X_HAT), -Normal(X_HAT, star).log_prob(X).sum((1, 2)))
    assert not likelihood.scale.is_fixed


def test_released_is_not_fixed():
    likelihood = made("gaussian").eval()
    likelihood.scale.fix(torch.tensor(0.5))
    likelihood.scale.release()
    assert not likelihood.scale.is_fixed
    with pytest.raises(ScaleNotFixedError):
        likelihood(X_HAT)


def test_a_held_scale_serves_the_pieces_of_a_batch():
    """Held at the whole batch's value the pieces' gradients add up to the whole batch's (envelope theorem)."""
    whole, parts = X_HAT.clone().requires_grad_(), X_HAT.clone().requires_grad_()
    likelihood = made("gaussian").double()
    nll(likelihood, whole).sum().backward()
    with likelihood.scale.held(F.optimal_sigma(X, X_HAT)):
        assert likelihood.training
        for rows in (slice(0, 3), slice(3, 8)):
            nll(likelihood, parts[rows], X[rows]).sum().backward()
    torch.testing.assert_close(parts.grad, whole.grad)
    assert not likelihood.scale.is_fixed
    assert not likelihood.scale.is_held


def test_whether_it_is_fixed_is_stored():
    likelihood, fresh = made("gaussian", shared="channel"), made("gaussian", shared="channel").eval()
    likelihood.scale.fix(torch.tensor([0.1, 0.2, 0.3]))
    fresh.load_state_dict(likelihood.state_dict())
    assert fresh.scale.is_fixed
    torch.testing.assert_close(fresh.scale.value, torch.tensor([0.1, 0.2, 0.3]))
    fresh.load_state_dict(made("gaussian", shared="channel").state_dict())
    assert not fresh.scale.is_fixed
    assert copy.deepcopy(likelihood).scale.is_fixed


@pytest.mark.parametrize("choice", ["optimal", "learned"])
@pytest.mark.parametrize(("kind", "noise"), [("gaussian", 1 / math.sqrt(12)), ("laplace", 1 / 4)])
def test_the_floor_is_the_statistic_of_the_quantisation_noise(kind, noise, choice):
    uniform = torch.linspace(-0.5, 0.5, 200_001, dtype=torch.float64) / 256
    power = KINDS[kind][2]
    likelihood = made(kind, choice)
    likelihood.set_step(1 / 256)
    assert likelihood.scale.floor == pytest.approx(noise / 256)
    assert likelihood.scale.floor == pytest.approx(float(uniform.abs().pow(power).mean().pow(1 / power)), rel=1e-4)


@pytest.mark.parametrize("choice", ["optimal", "learned"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_scale_falls_below_its_floor(kind, choice):
    start = {"initial_sigma" if kind == "gaussian" else "initial_scale": 1e-9}
    likelihood = made(kind, choice, **start).eval()
    likelihood.set_step(1 / 256)
    if choice == "optimal":
        likelihood.scale.fix(torch.tensor(0.0))
    assert likelihood.scale.value.item() == pytest.approx(likelihood.scale.floor, rel=1e-6)
    assert torch.isfinite(nll(likelihood, X)).all()
    if choice == "learned":  # descent can return from below it
        nll(likelihood, X_HAT).sum().backward()
        assert likelihood.scale.parameter.grad < 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_floor_is_that_of_the_present_data(kind):
    """Fit on 8-bit data, then on continuous data: the first data's floor must not outlive them."""
    likelihood = made(kind)
    likelihood.set_step(1 / 16)
    likelihood.set_step(None)
    assert likelihood.scale.floor == 1e-6
    near = X_HAT + 1e-3 * (X - X_HAT)
    star = F.optimal_scale(near, X_HAT, "all", KINDS[kind][2])
    assert star < 1 / 16 / 4
    expected = -KINDS[kind][1](X_HAT, star).log_prob(near).sum((1, 2))
    torch.testing.assert_close(nll(likelihood, X_HAT, near), expected)


def test_a_perfect_reconstruction_in_training_stays_finite():
    for kind in KINDS:
        x_hat = X.clone().requires_grad_()
        value = nll(made(kind), x_hat)
        value.sum().backward()
        assert torch.isfinite(value).all()
        assert torch.isfinite(x_hat.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_given_floor_is_kept(kind):
    likelihood = made(kind, "learned", floor=0.01)
    for step in (1 / 256, None):
        likelihood.set_step(step)
        assert likelihood.scale.floor == 0.01


def test_a_fixed_scale_is_not_raised_to_the_floor():
    likelihood = made("gaussian", 1e-4)
    likelihood.set_step(1 / 4)
    assert likelihood.scale.value.item() == pytest.approx(1e-4)


@pytest.mark.parametrize(("kind", "summary"), [("gaussian", math.sqrt((1 + 4 + 9) / 3)), ("laplace", 2.0)])
def test_the_summary_is_the_statistic_over_the_entries(kind, summary):
    """The one number that a scale per channel comes to: root mean square of a Gaussian's, mean of a Laplace density's."""
    likelihood = made(kind, shared="channel")
    likelihood.scale.fix(torch.tensor([1.0, 2.0, 3.0]))
    assert likelihood.scale.summary() == pytest.approx(summary)
    factor = 1.0 if kind == "gaussian" else math.sqrt(2.0)
    assert likelihood.scale.std() == pytest.approx(factor * summary)
    alone = made(kind, 0.7).eval()
    assert alone.scale.std() == pytest.approx(float(alone(X_HAT[:1]).stddev[0, 0, 0]), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_learned_scale_is_a_parameter(kind):
    for choice, shared in ((0.3, "all"), ("optimal", "channel")):
        assert list(made(kind, choice, shared).parameters()) == []
        assert made(kind, choice, shared).scale.parameter is None
    for shared, shape in zip(SHARED, ((), (3,), (3, 4)), strict=True):
        likelihood = made(kind, "learned", shared)
        (parameter,) = likelihood.parameters()
        assert likelihood.scale.parameter is parameter
        assert tuple(parameter.shape) == shape


@pytest.mark.parametrize("kind", KINDS)
def test_a_learned_scale_descends_to_the_batchs_statistic(kind):
    likelihood = made(kind, "learned", "channel").double()
    optimiser = torch.optim.LBFGS(likelihood.parameters(), max_iter=100, tolerance_grad=1e-12, tolerance_change=0.0)

    def total():
        optimiser.zero_grad()
        value = nll(likelihood, X_HAT).sum()
        value.backward()
        return value

    optimiser.step(total)
    expected = F.optimal_scale(X, X_HAT, "channel", KINDS[kind][2])
    torch.testing.assert_close(likelihood.scale.value, expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_bad_scales_are_refused(kind, bad):
    with pytest.raises(ArgumentError, match="'learned' or 'optimal'"):
        made(kind, bad)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made("gaussian", "learned", initial_sigma=0.0), "must be a positive number"),
        (lambda: FixedScale("best"), "'learned' or 'optimal'; got 'best'"),
        (lambda: made("gaussian", floor=-1.0), "`floor` must be a positive number"),
        (lambda: made("gaussian").scale.fix(torch.tensor(math.nan)), "must be finite"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_scale_belongs_to_one_shape():
    likelihood = made("gaussian", "learned", "element")
    with pytest.raises(ShapeError, match="belongs to data of shape"):
        likelihood.set_data_shape((5,))
    with pytest.raises(ShapeError, match=r"must be \(3, 4\) here; got \(3,\)"):
        made("gaussian", shared="element").scale.fix(torch.ones(3))
    with pytest.raises(ShapeError, match="before the data's is known"):
        _ = cb.GaussianLikelihood("optimal", "channel").scale.shape
