"""Likelihood of mixed columns: each family is normalised, a missing cell counts nothing, draws follow the probabilities."""

import math

import pytest
import torch
from torch.distributions import Normal, Poisson

import calibrae as cb
from calibrae.errors import ArgumentError, ShapeError
from calibrae.likelihoods import is_split, nll_per_element

pytestmark = pytest.mark.usefixtures("double")

LINE = {"knots": (-1.0, 0.0, 2.0), "scores": (-1.2, 0.1, 1.5)}
COLUMNS = {
    "real": cb.ColumnModel("real", "gaussian", scale=7.0, **LINE),
    "positive": cb.ColumnModel("positive", "gaussian", scale=0.2, is_positive=True, **LINE),
    "heavy": cb.ColumnModel("heavy", "student-t", scale=3.0),
    "count": cb.ColumnModel("count", "negative-binomial", mean=3.0, variance=9.0),
    "rare": cb.ColumnModel("rare", "poisson", mean=0.7, variance=0.7),
    "level": cb.ColumnModel("level", "ordinal", shares=(0.2, 0.5, 0.1, 0.2), missing=0.1),
    "bit": cb.ColumnModel("bit", "bernoulli", shares=(0.3, 0.7)),
    "word": cb.ColumnModel("word", "categorical", shares=(0.2, 0.3, 0.5)),
    "two": cb.ColumnModel("two", "ordinal", shares=(0.5, 0.5)),
    "pair": cb.ColumnModel("pair", "categorical", shares=(0.9, 0.1)),
    "zeros": cb.ColumnModel("zeros", "hurdle", scale=50.0, is_positive=True, shares=(0.25,), **LINE),
    "spike": cb.ColumnModel("spike", "hurdle", scale=5.0, shares=(0.6,), **LINE),
}
ALL = list(COLUMNS.values())
DISCRETE = {"level": 4, "bit": 2, "word": 3, "two": 2, "pair": 2}


def head_of(*columns):
    likelihood = cb.MixedLikelihood(columns)
    likelihood.set_data_shape((len(columns),))
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(0.2 * torch.rand_like(parameter))
    return likelihood


def outputs_of(likelihood, count, seed=0):
    start, _ = likelihood.output_init(torch.zeros(()), torch.ones(()))
    noise = torch.randn(count, len(start), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return start + 0.5 * noise


@pytest.mark.parametrize("name", [*DISCRETE])
def test_probabilities_sum_to_one(name):
    head, levels = head_of(COLUMNS[name]), torch.arange(DISCRETE[name], dtype=torch.float64)
    output = outputs_of(head, 5)
    total = head(output[:, None]).log_prob(levels[:, None]).exp().sum(1)
    assert torch.allclose(total, torch.ones(5))


@pytest.mark.parametrize("name", ["count", "rare"])
def test_counts_sum_to_one(name):
    head = head_of(COLUMNS[name])
    total = head(outputs_of(head, 4)[:, None]).log_prob(torch.arange(3000.0)[:, None]).exp().sum(1)
    assert torch.allclose(total, torch.ones(4), atol=1e-6)


@pytest.mark.parametrize("name", ["real", "positive", "heavy", "zeros", "spike"])
def test_densities_integrate_to_one_in_the_units_of_the_table(name):
    """By quadrature in the table's units: the model's value is the table's divided by the scale."""
    column, head = COLUMNS[name], head_of(COLUMNS[name])
    output = outputs_of(head, 3)
    u = torch.linspace(-1, 1, 400_001)[1:-1]
    table = column.scale * 3.0 * u / (1.0 - u.square())  # to infinity
    slope = column.scale * 3.0 * (1.0 + u.square()) / (1.0 - u.square()).square()
    x = table / column.scale
    log_prob = head(output[:, None]).log_prob(x[:, None])
    kept = torch.where(x == column.atom, 0.0, log_prob.exp()) if column.head == "hurdle" else log_prob.exp()
    total = (kept * slope).sum(1) * (u[1] - u[0])
    if column.head == "hurdle":
        total = total + head(output).log_prob(torch.full((1,), column.atom)).exp()
    assert torch.allclose(total, torch.ones(3), atol=2e-4)


def test_a_straight_gaussian_is_the_normal_of_torch():
    column = cb.ColumnModel("a", "gaussian", scale=4.0)
    head = head_of(column)
    sigma, mean = head.heads[0].log_sigma.exp(), torch.tensor([0.3])
    known = Normal(4.0 * mean, 4.0 * sigma).log_prob(torch.tensor([8.0]))
    assert torch.allclose(head(mean[None]).log_prob(torch.tensor([[2.0]])), known)
    rare = head_of(COLUMNS["rare"])
    assert torch.allclose(
        rare(torch.tensor([[0.4]])).log_prob(torch.tensor([[3.0]])),
        Poisson(math.exp(0.4)).log_prob(torch.tensor([3.0])),
    )


def test_cells_add_up_and_a_missing_one_counts_nothing():
    head = head_of(*ALL)
    px = head(outputs_of(head, 6))
    x = px.sample()
    whole = nll_per_element(px, x)
    assert is_split(px)
    assert whole.shape == (6, len(ALL))
    assert torch.allclose(-whole.sum(-1), px.log_prob(x))
    for j in range(len(ALL)):  # in the order of the columns, not of the families
        holed = x.clone()
        holed[:, j] = math.nan
        assert torch.allclose(px.log_prob(x) - px.log_prob(holed), -whole[:, j])
    assert px.log_prob(torch.full_like(x, math.nan)).abs().max() == 0.0


def test_gradients_are_finite_where_cells_are_missing():
    head = head_of(*ALL)
    output = outputs_of(head, 6).requires_grad_()
    x = head(output.detach()).sample()
    x[torch.rand(x.shape) < 0.5] = math.nan
    head(output).log_prob(x).sum().backward()
    assert torch.isfinite(output.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_draws_follow_the_probabilities_and_means():
    head, count = head_of(*ALL), 60_000
    with torch.no_grad():
        px = head(outputs_of(head, 1).expand(count, -1))
        x, means = px.sample(), px.mean
    for j, name in enumerate(COLUMNS):
        if name in DISCRETE:
            probe = torch.full((DISCRETE[name], len(ALL)), math.nan)
            probe[:, j] = torch.arange(float(DISCRETE[name]))
            known = px.log_prob(probe[:, None])[:, 0].exp()
            seen = torch.stack([(x[:, j] == k).double().mean() for k in range(DISCRETE[name])])
            assert (seen - known).abs().max() < 5 * 0.5 / count**0.5, name
        if name in ("real", "positive", "count", "rare", "level", "two", "zeros", "spike"):
            error = 6 * float(x[:, j].std()) / count**0.5
            assert abs(float(x[:, j].mean() - means[0, j])) < error + 2e-3 * float(x[:, j].std()), name
    assert torch.equal(means[0, [6, 7, 9]], means[0, [6, 7, 9]].round())


def test_the_start_is_the_distribution_in_training():
    head = cb.MixedLikelihood(ALL)
    head.set_data_shape((len(ALL),))
    start, _ = head.output_init(torch.zeros(()), torch.ones(()))
    for j, (name, column) in enumerate(COLUMNS.items()):
        if name in DISCRETE:
            probe = torch.full((DISCRETE[name], len(ALL)), math.nan)
            probe[:, j] = torch.arange(float(DISCRETE[name]))
            assert torch.allclose(head(start.double()).log_prob(probe).exp(), torch.tensor(column.shares), atol=1e-5), (
                name
            )


def test_the_best_value_of_a_mixture():
    head = head_of(COLUMNS["word"], COLUMNS["rare"])
    output = outputs_of(head, 3)[:, None].expand(3, 2, -1)
    weights = torch.tensor([[0.2, 1.0], [0.5, 0.0], [0.3, 0.0]])
    probe = torch.stack([torch.arange(3.0), torch.full((3,), math.nan)], -1)
    probs = (weights[..., None] * head(output[..., None, :]).log_prob(probe).exp()).sum(0)
    found = head(output).averaged(weights)
    assert torch.equal(found[:, 0], probs.argmax(-1).double())
    assert torch.allclose(found[:, 1], (weights * output[..., 0].exp()).sum(0))


def test_what_an_encoder_sees_is_zero_for_a_missing_cell():
    head = head_of(*ALL)
    first = head.input_layer().double()
    x = head(outputs_of(head, 9)).sample()
    assert first(x).shape == (9, first.width)
    assert torch.isfinite(first(x)).all()
    blank = first(torch.full((1, len(ALL)), math.nan))
    assert blank.abs().max() == 0.0
    assert torch.equal(first(x)[:, -1], torch.ones(9))  # the one column that had missing cells in training was observed


def test_a_mask_is_missing_cells():
    model = cb.build(data_shape=(len(ALL),), latent_dim=2, likelihood=cb.MixedLikelihood(ALL), seed=0).double()
    x = model.decode(torch.zeros(4, 2)).sample()
    mask = torch.rand(x.shape) < 0.6
    eps = torch.randn(3, 4, 2)
    masked = model.draw(cb.Batch(x, mask=mask), 3, eps)
    holed = model.draw(cb.Batch(x.masked_fill(~mask, math.nan)), 3, eps)
    assert torch.equal(masked.log_weights, holed.log_weights)
    assert torch.isfinite(masked.log_weights).all()


def test_a_linear_model_with_missing_cells_has_the_exact_marginal():
    """Gaussian columns and a linear decoder: `p(x_observed)` is a normal, which importance weights must find."""
    columns = [cb.ColumnModel(name, "gaussian", scale=s) for name, s in (("a", 2.0), ("b", 0.5), ("c", 1.0))]
    model = cb.build(data_shape=(3,), latent_dim=2, network="linear", likelihood=cb.MixedLikelihood(columns), seed=1)
    model = model.double().eval()
    with torch.no_grad():
        mean = model.decode(torch.zeros(1, 2)).outputs[0][0]
        weight = torch.stack([model.decode(torch.eye(2)[i : i + 1]).outputs[0][0] - mean for i in range(2)], 1)
    scale = torch.tensor([2.0, 0.5, 1.0])
    covariance = weight @ weight.T + torch.diag(model.likelihood.heads[0].spread().detach().exp().square())
    x = torch.tensor([[0.3, math.nan, -1.0], [math.nan, 0.2, math.nan], [0.1, 0.2, 0.3]])
    with torch.no_grad():
        bound = model.draw(x, 60_000).log_weights.logsumexp(0) - math.log(60_000)
    for row, value in zip(x, bound, strict=True):
        seen = ~row.isnan()
        known = torch.distributions.MultivariateNormal(mean[seen], covariance[seen][:, seen])
        exact = known.log_prob(row[seen]) - scale[seen].log().sum()
        assert abs(float(value - exact)) < 0.02


def test_a_description_rebuilds_the_model():
    model = cb.build(data_shape=(len(ALL),), latent_dim=2, likelihood=cb.MixedLikelihood(ALL))
    from calibrae.models import build_from_config

    again = build_from_config(model.config)
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    x = model.decode(torch.zeros(3, 2)).sample()
    assert torch.equal(again.decode(torch.zeros(3, 2)).log_prob(x), model.decode(torch.zeros(3, 2)).log_prob(x))


def test_what_is_no_column_is_refused():
    with pytest.raises(ArgumentError, match="at least one column"):
        cb.MixedLikelihood([])
    with pytest.raises(ArgumentError, match="has no"):
        cb.MixedLikelihood([{"name": "a", "head": "gaussian", "colour": 1}])
    with pytest.raises(ShapeError, match="2 columns"):
        cb.MixedLikelihood(ALL[:2]).set_data_shape((3,))
