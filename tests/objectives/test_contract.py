"""One contract for every objective, registered or of one's own: a number per example, from the draw alone."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

import calibrae as cb
from calibrae import Batch, _registry
from calibrae.errors import ArgumentError
from calibrae.objectives import elbo_terms, require_terms

pytestmark = pytest.mark.usefixtures("double")

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class FreeBits(cb.Objective):
    """Free bits per latent that shrink during training: an objective with a schedule."""

    def schedule(self, step, total):
        return {"free": 0.5 * (1.0 - step / total), "beta": 2.0}

    def __call__(self, draw, weights):
        kl = draw.kl_per_dim.clamp_min(weights["free"]).sum(1)
        nll = draw.nll.mean(0)
        return cb.Terms(nll + weights["beta"] * kl, {"nll": nll, "kl": draw.kl})


class Jackknife(cb.Objective):
    """The importance-weighted bound with its leading bias removed: an objective with `K` samples (Nowozin 2018)."""

    samples = 4

    def __call__(self, draw, weights):
        k, w = self.samples, draw.log_weights
        whole = torch.logsumexp(w, 0) - math.log(k)
        without = torch.stack([torch.logsumexp(w[torch.arange(k) != i], 0) - math.log(k - 1) for i in range(k)])
        return cb.Terms(-(k * whole - (k - 1) * without.mean(0)), {"nll": draw.nll.mean(0)})


MEMBERS = {
    "elbo": cb.BetaELBO,
    "beta": lambda: cb.BetaELBO(4.0),
    "warm-up": lambda: cb.BetaELBO(2.0, kl_warmup=0.5),
    "converted": lambda: cb.BetaELBO.from_convention(0.01, "mean-nll", data_dim=64, latent_dim=3),
    "no-kl": lambda: cb.BetaELBO(0.0),
    "iwae": lambda: cb.IWAE(3),
    "iwae-1": lambda: cb.IWAE(1),
    "reconstruction": cb.ReconstructionError,
    "free-bits": FreeBits,
    "jackknife": Jackknife,
}


@pytest.fixture(params=MEMBERS)
def objective(request):
    return MEMBERS[request.param]()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return cb.build("vae", data_shape=(4,), latent_dim=2, network="linear", sigma=0.6).double()


def noise(objective, n=5):
    return torch.randn(objective.samples, n, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def loss(objective, model, x=X, eps=None, step=7):
    eps = noise(objective, len(x)) if eps is None else eps
    return objective(model.draw(x, objective.samples, eps), objective.schedule(step, 10))


def parts_of(model, x, eps):
    """`-log p(x|z) [K, B]`, the log weights `[K, B]` and the KL per latent, by torch from the networks themselves."""
    features = model.encoder(x)
    q = Normal(features[:, :2], features[:, 2:].exp())
    z = q.mean + q.stddev * eps
    output = torch.stack([model.decoder(one) for one in z])
    nll = -Normal(output, 0.6).log_prob(x).sum(-1)
    log_weights = Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z).sum(-1) - nll
    return nll, log_weights, kl_divergence(q, Normal(0.0, 1.0))


def written_out(objective, model, x, eps, step):
    """The loss of each example by its formula."""
    nll, log_weights, kl = parts_of(model, x, eps)
    if isinstance(objective, cb.BetaELBO):
        rising = objective.kl_warmup * 10
        beta = objective.beta if step >= rising else objective.beta * step / rising
        return nll[0] + beta * kl.sum(1)
    if isinstance(objective, cb.IWAE):
        return -log_weights.exp().mean(0).log()
    if isinstance(objective, cb.ReconstructionError):
        return nll[0]
    if isinstance(objective, FreeBits):
        return nll[0] + 2.0 * torch.maximum(kl, torch.tensor(0.5 * (1 - step / 10))).sum(1)
    weights = log_weights.exp()
    without = torch.stack([(weights.sum(0) - weights[i]) / 3 for i in range(4)]).log().mean(0)
    return -(4 * weights.mean(0).log() - 3 * without)


def test_every_registered_objective_is_a_member():
    ours = {c for c in _registry._CLASSES["objective"].values() if getattr(cb, c.__name__, None) is c}
    assert ours <= {type(make()) for make in MEMBERS.values()}


@pytest.mark.parametrize("step", [0, 3, 5, 10])
def test_the_loss_of_each_example_is_that_of_the_formula_in_value_and_gradient(objective, model, step):
    eps = noise(objective)
    found = loss(objective, model, eps=eps, step=step).loss
    expected = written_out(objective, model, X, eps, step)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    parameters = list(model.parameters())
    ours, theirs = (
        torch.autograd.grad(value.mean(), parameters, allow_unused=True, materialize_grads=True)
        for value in (found, expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_loss_and_parts_are_one_number_per_example(objective, model):
    terms = loss(objective, model)
    require_terms(terms, len(X), objective)
    assert terms.loss.shape == (5,)
    assert all(part.shape == (5,) for part in terms.parts.values())
    nll, _, kl = parts_of(model, X, noise(objective))
    torch.testing.assert_close(terms.parts["nll"], nll.mean(0))
    if "kl" in terms.parts:
        torch.testing.assert_close(terms.parts["kl"], kl.sum(1))


def test_an_example_does_not_depend_on_the_others_or_on_their_number(objective, model):
    eps = noise(objective)
    terms = loss(objective, model, eps=eps)
    alone = loss(objective, model, X[2:3], eps[:, 2:3])
    torch.testing.assert_close(alone.loss, terms.loss[2:3])
    doubled = loss(objective, model, X.repeat(2, 1), eps.repeat(1, 2, 1))
    torch.testing.assert_close(doubled.loss, terms.loss.repeat(2))


def test_the_order_of_the_samples_does_not_matter(objective, model):
    eps = noise(objective)
    torch.testing.assert_close(loss(objective, model, eps=eps.flip(0)).loss, loss(objective, model, eps=eps).loss)


def test_the_schedule_names_the_same_weights_at_every_step_and_ends_at_the_final_ones(objective):
    names = {tuple(objective.schedule(step, 10)) for step in range(11)}
    assert len(names) == 1
    assert objective.schedule(10, 10) == objective.schedule(1000, 1000) == objective.final_weights()


def test_tensors_serve_as_weights_as_numbers_do(objective, model):
    """A compiled step passes the weights as tensors, so that a new one needs no new program."""
    draw = model.draw(X, objective.samples, noise(objective))
    schedule = objective.schedule(3, 10)
    tensors = {name: torch.tensor(value) for name, value in schedule.items()}
    torch.testing.assert_close(objective(draw, tensors).loss, objective(draw, schedule).loss)


def test_it_passes_the_check_that_users_call(objective):
    torch.set_default_dtype(torch.float32)
    cb.testing.check_objective(objective, cb.build("vae", data_shape=(4,), latent_dim=2, network="linear"), X.float())


@pytest.mark.parametrize("name", ["elbo", "beta", "warm-up", "no-kl"])
@pytest.mark.parametrize("step", [0, 3, 10])
def test_the_loss_never_falls_with_either_term(name, step):
    """Directional derivatives in the NLL and in the KL, which the chain rule would hide behind the networks."""
    objective = MEMBERS[name]()

    class Fixed:
        nll = torch.rand(1, 5, requires_grad=True)
        kl = torch.rand(5, requires_grad=True)

    terms = objective(Fixed, objective.schedule(step, 10))
    gradients = torch.autograd.grad(terms.loss.sum(), (Fixed.nll, Fixed.kl), allow_unused=True)
    assert torch.equal(gradients[0], torch.ones(1, 5))
    assert torch.equal(gradients[1], torch.full((5,), objective.schedule(step, 10)["beta"]))


def test_at_beta_one_the_loss_is_minus_the_elbo(model):
    eps = torch.randn(1, 5, 2)
    draw = model.draw(X, eps=eps)
    torch.testing.assert_close(cb.BetaELBO()(draw, {"beta": 1.0}).loss, -model.elbo(X, eps=eps[0]).elbo)
    torch.testing.assert_close(elbo_terms(draw).elbo, model.elbo(X, eps=eps[0]).elbo)


def test_several_samples_of_the_elbo_are_averaged(model):
    eps = torch.randn(6, 5, 2)
    terms = elbo_terms(model.draw(X, 6, eps))
    each = torch.stack([model.elbo(X, eps=one).nll for one in eps])
    torch.testing.assert_close(terms.nll, each.mean(0))
    torch.testing.assert_close(terms.kl, model.elbo(X, eps=eps[0]).kl)


def test_importance_weighting_with_one_sample_is_the_single_sample_elbo(model):
    """Estimated without the closed form of the KL: `log p(x|z) + log p(z) - log q(z|x)`."""
    eps = torch.randn(1, 5, 2)
    found = cb.IWAE(1)(model.draw(X, 1, eps), {}).loss
    log_weights = parts_of(model, X, eps)[1]
    torch.testing.assert_close(found, -log_weights[0])
    many = torch.randn(1, 200_000, 2)
    x = X[:1].expand(200_000, 4)
    estimates = cb.IWAE(1)(model.draw(x, 1, many), {}).loss
    exact = model.elbo(x, eps=many[0])
    difference = estimates + exact.elbo  # its mean is that of log q - log p less the KL: zero
    assert abs(difference.mean()) < 5 * difference.std() / 200_000**0.5


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [
        (0.0, [2.0, 2.0, 2.0, 2.0, 2.0]),
        (0.1, [0.0, 1.0, 2.0, 2.0, 2.0]),
        (1.0, [0.0, 0.1, 0.2, 1.98, 2.0]),
    ],
)
def test_warm_up_rises_linearly_over_its_share_of_the_steps_and_stays(warmup, expected):
    objective = cb.BetaELBO(2.0, kl_warmup=warmup)
    found = [objective.schedule(step, 100)["beta"] for step in (0, 5, 10, 99, 100)]
    assert found == pytest.approx(expected)
    assert objective.final_weights() == {"beta": 2.0}
    assert [objective.schedule(step, 40)["beta"] for step in (2, 40)] == pytest.approx(
        [2.0 * min(1.0, 2 / (warmup * 40)) if warmup else 2.0, 2.0]
    )


@pytest.mark.parametrize(
    ("convention", "value", "beta"),
    [("half-sse", 3.0, 3.0 / 0.25), ("sse", 3.0, 1.5 / 0.25), ("mean-nll", 0.01, 0.64), ("nll", 3.0, 3.0)],
)
def test_a_beta_of_another_convention_has_the_same_optimum(convention, value, beta):
    """Ratio of the two terms' weights: at sigma = 0.5 the NLL holds the squared error twice over."""
    made = cb.BetaELBO.from_convention(value, convention, data_dim=64, latent_dim=3, sigma=0.5)
    assert made.beta == pytest.approx(beta)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cb.BetaELBO(-1.0), "not negative; got -1"),
        (lambda: cb.BetaELBO(math.nan), "must be a number"),
        (lambda: cb.BetaELBO(kl_warmup=1.5), "share of all steps, 0 to 1; got 1.5"),
        (lambda: cb.BetaELBO(kl_warmup=-0.1), "share of all steps"),
        (lambda: cb.IWAE(0), "at least 1; got 0"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("shape", [(), (1,), (5, 1), (3, 5)])
def test_a_loss_that_is_not_one_number_per_example_is_refused(shape):
    with pytest.raises(ArgumentError, match=r"one number per example, \[5\]; got loss"):
        require_terms(cb.Terms(torch.zeros(shape), {}), 5, cb.BetaELBO())
    with pytest.raises(ArgumentError, match=r"got kl \["):
        require_terms(cb.Terms(torch.zeros(5), {"kl": torch.zeros(shape)}), 5, cb.BetaELBO())


def test_a_plain_autoencoder_has_a_reconstruction_term_and_no_kl():
    from calibrae.errors import NoDensityError

    model = cb.build("autoencoder", data_shape=(4,), latent_dim=2, network="linear").double()
    draw = model.draw(X)
    assert not draw.is_bound
    expected = -Normal(model.decoder(model.encoder(X)), 1.0).log_prob(X).sum(1)
    torch.testing.assert_close(cb.ReconstructionError()(draw, {}).loss, expected)
    for what in ("p", "kl", "log_p", "log_weights", "kl_per_dim"):
        with pytest.raises(NoDensityError, match="no prior"):
            getattr(draw, what)


def test_a_draw_of_a_batch_carries_the_batch():
    """The objective may read data and context from the draw: here it weighs the examples by their context."""

    class Weighted(cb.Objective):
        def __call__(self, draw, weights):
            return cb.Terms(draw.context[:, 0] * draw.nll.mean(0), {"size": draw.x.abs().sum(1)})

    model = cb.build("vae", data_shape=(4,), latent_dim=2, network="linear", context_dim=1).double()
    context, eps = torch.rand(5, 1), torch.randn(1, 5, 2)
    draw = model.draw(Batch(X, context), eps=eps)
    terms = Weighted()(draw, {})
    torch.testing.assert_close(terms.loss, context[:, 0] * model.elbo(X, context, eps=eps[0]).nll)
    torch.testing.assert_close(terms.parts["size"], X.abs().sum(1))


def test_an_objective_of_ones_own_works_with_a_prior_that_does_not_factorise():
    """A mixture prior: the KL of a draw is then an estimate, `mean(log q - log p)` over its samples."""
    prior = cb.MixturePrior(2, components=3)
    model = cb.VAE(
        nn.Linear(4, 4),
        nn.Linear(2, 4),
        cb.GaussianLikelihood(0.6),
        prior,
        posterior=cb.GaussianPosterior("log_std"),
    ).double()
    eps = torch.randn(7, 5, 2)
    draw = model.draw(X, 7, eps)
    mean, log_std = model.encoder(X).chunk(2, 1)
    z = mean + log_std.exp() * eps
    parts = Independent(Normal(prior.means, prior.log_stds.exp()), 1).log_prob(z.unsqueeze(-2))
    log_p = torch.logsumexp(parts + prior.logits.log_softmax(0), -1)
    expected = (Normal(mean, log_std.exp()).log_prob(z).sum(-1) - log_p).mean(0)
    torch.testing.assert_close(draw.kl, expected)
    assert draw.kl_per_dim is None
    torch.testing.assert_close(cb.BetaELBO(2.0)(draw, {"beta": 2.0}).loss, draw.nll.mean(0) + 2 * expected)
