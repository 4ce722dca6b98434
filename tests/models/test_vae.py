"""The composition, its presets, anybody's modules, and what a model refuses."""

import json

import pytest
import torch
from torch import nn
from torch.distributions import Laplace, Normal, kl_divergence

import calibrae as cb
from calibrae import Batch
from calibrae.errors import ArgumentError, NoDensityError, ScaleNotFixedError, ShapeError
from calibrae.models import PRESETS, ModelConfig, build_from_config, evaluating, interpolation, summarise, traversal

X = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
INDEX = torch.arange(6)


def ready(name, **kwargs):
    model = cb.build(name, data_shape=(3, 8, 8), latent_dim=4, network="mlp", **kwargs)
    if model.likelihood.scale is not None and not model.likelihood.scale.is_fixed:
        cb.fix_scale(model, X)
    return model.eval()


def gaussian_parts(model):
    """Mean and log std of the posterior, from the networks alone."""
    return model.encoder(X).chunk(2, 1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_do_what_models_do(name):
    model = ready(name)
    assert model.encode(X).mean.shape == (6, 4)
    assert model.decode(torch.zeros(2, 4)).mean.shape == (2, 3, 8, 8)
    reconstruction = model.reconstruct(X)
    torch.testing.assert_close(reconstruction, model.decoder(model.encoder(X)[:, :4]))
    assert model.is_probabilistic == (name != "autoencoder")
    if name == "autoencoder":
        for call in (lambda: model.elbo(X), lambda: model.sample(2)):
            with pytest.raises(NoDensityError, match="sigma-vae"):
                call()
        return
    terms = model.elbo(X)
    assert terms.nll.shape == terms.elbo.shape == terms.kl.shape == (6,)
    assert terms.kl_per_dim.shape == (6, 4)
    torch.testing.assert_close(terms.kl, terms.kl_per_dim.sum(1))
    torch.testing.assert_close(terms.elbo, -(terms.nll + terms.kl))
    assert model.sample(3).shape == model.sample(3, observation_noise=True).shape == (3, 3, 8, 8)


@pytest.mark.parametrize(
    ("name", "choice", "value", "beta"),
    [("vae", "fixed", 1.0, 1.0), ("beta-vae", "fixed", 1.0, 4.0), ("sigma-vae", "optimal", None, 1.0)],
)
def test_presets_are_what_the_literature_calls_so(name, choice, value, beta):
    model = cb.build(name, data_shape=(4,), latent_dim=2)
    assert model.likelihood.scale.choice == choice
    assert value is None or model.likelihood.scale.summary() == value
    assert model.objective == cb.BetaELBO(beta)
    assert isinstance(model.prior, cb.StandardNormalPrior)


@pytest.mark.parametrize("name", ["vae", "beta-vae", "sigma-vae"])
def test_a_beta_that_is_asked_for_replaces_the_presets(name):
    model = cb.build(name, data_shape=(4,), latent_dim=2, beta=7.0, kl_warmup=0.25)
    assert model.objective == cb.BetaELBO(7.0, kl_warmup=0.25)


def test_the_vae_preset_is_half_sse_plus_kl():
    """Pythae's and the textbook's loss, up to the constant that we keep."""
    model = ready("vae")
    eps = torch.randn(6, 4)
    mean, log_std = gaussian_parts(model)
    half_sse = 0.5 * (X - model.decoder(mean + log_std.exp() * eps)).square().flatten(1).sum(1)
    kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp()).sum(1)
    constant = 0.5 * 192 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(-model.elbo(X, eps=eps).elbo, half_sse + constant + kl)


@pytest.mark.parametrize(("likelihood", "family"), [("gaussian", Normal), ("laplace", Laplace)])
@pytest.mark.parametrize("shared", ["all", "channel", "element"])
def test_a_draw_is_what_torch_says_at_each_sample(likelihood, family, shared):
    """Several samples, a fixed optimal scale of any sharing: every field of the draw from the networks alone."""
    model = ready("sigma-vae", likelihood=likelihood, sigma_shared=shared).double()
    x, eps = X.double(), torch.randn(5, 6, 4, dtype=torch.float64)
    draw = model.draw(x, samples=5, eps=eps)
    mean, log_std = model.encoder(x).chunk(2, 1)
    q, p = Normal(mean, log_std.exp()), Normal(0.0, 1.0)
    z = mean + log_std.exp() * eps
    scale = model.likelihood.scale.value
    scale = scale[:, None, None] if shared == "channel" else scale
    output = torch.stack([model.decoder(one) for one in z])
    nll = -family(output, scale).log_prob(x).sum((2, 3, 4))
    torch.testing.assert_close(draw.z, z)
    torch.testing.assert_close(draw.nll, nll)
    torch.testing.assert_close(draw.sse, (output - x).square().sum((2, 3, 4)))
    torch.testing.assert_close(draw.log_q, q.log_prob(z).sum(-1))
    torch.testing.assert_close(draw.log_p, p.log_prob(z).sum(-1))
    torch.testing.assert_close(draw.kl_per_dim, kl_divergence(q, p))
    torch.testing.assert_close(draw.kl, kl_divergence(q, p).sum(1))
    torch.testing.assert_close(draw.log_weights, (p.log_prob(z) - q.log_prob(z)).sum(-1) - nll)
    assert torch.equal(draw.x, x)
    assert draw.is_bound


def test_a_draw_from_a_known_posterior_does_not_encode_again():
    model = ready("vae")
    eps = torch.randn(2, 6, 4)
    expected = model.draw(X, 2, eps).nll
    q = model.encode(X)
    model.encoder.forward = None
    torch.testing.assert_close(model.draw(Batch(X), 2, eps, q=q).nll, expected)


def test_forward_is_draw():
    model = ready("vae")
    eps = torch.randn(2, 6, 4)
    assert torch.equal(model(X, 2, eps).log_weights, model.draw(X, 2, eps).log_weights)


def test_latents_of_any_leading_dimensions_decode():
    model = ready("vae")
    z = torch.randn(2, 3, 5, 4)
    px = model.decode(z)
    assert (tuple(px.batch_shape), tuple(px.event_shape)) == ((2, 3, 5), (3, 8, 8))
    torch.testing.assert_close(px.mean[1, 2], model.decoder(z[1, 2]))


def test_what_is_reported_as_the_elbo_has_beta_one():
    plain, weighted = ready("vae"), ready("beta-vae")
    weighted.load_state_dict(plain.state_dict())
    eps = torch.randn(6, 4)
    torch.testing.assert_close(plain.elbo(X, eps=eps).elbo, weighted.elbo(X, eps=eps).elbo)
    terms, draw = plain.elbo(X, eps=eps), plain.draw(X, eps=eps[None])
    torch.testing.assert_close(cb.BetaELBO(3.0)(draw, {"beta": 3.0}).loss, terms.nll + 3 * terms.kl)


class Encoder(nn.Module):
    """Anybody's encoder: a pair of the mean and a logarithm of the spread."""

    def __init__(self):
        super().__init__()
        self.body, self.mean, self.spread = nn.Linear(192, 16), nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x):
        h = self.body(x.flatten(1)).relu()
        return self.mean(h), self.spread(h)


def foreign(likelihood, spread="log_std"):
    decoder = nn.Sequential(nn.Linear(4, 192), nn.Unflatten(1, (3, 8, 8)))
    posterior = cb.GaussianPosterior(spread)
    return cb.VAE(Encoder(), decoder, likelihood, cb.StandardNormalPrior(4), posterior=posterior)


def test_anybodys_modules_drop_in():
    model = foreign(cb.GaussianLikelihood("learned", "channel"))
    model.elbo(X)  # tells the likelihood the shape of the data
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(60):
        draw = model.draw(X)
        loss = model.objective(draw, model.objective.schedule(step, 60)).loss.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 10.0
    assert model.likelihood.scale.parameter.shape == (3,)


def test_what_the_second_half_of_the_features_is_changes_the_posterior():
    """A log variance read as a log std has its square as the variance: hence nothing is assumed."""
    one, other = foreign(cb.GaussianLikelihood(1.0)), foreign(cb.GaussianLikelihood(1.0), "log_var")
    other.load_state_dict(one.state_dict())
    spread = one.encoder(X)[1]
    torch.testing.assert_close(one.encode(X).stddev, spread.exp())
    torch.testing.assert_close(other.encode(X).variance, spread.exp())
    with pytest.raises(ArgumentError, match=r"nothing says.*GaussianPosterior\('log_var'\)"):
        cb.VAE(Encoder(), nn.Identity(), cb.GaussianLikelihood(1.0), cb.StandardNormalPrior(4))


@pytest.mark.parametrize("network", ["linear", "mlp"])
def test_networks_of_ours_say_it_themselves(network):
    encoder, decoder = cb.networks.build_networks(network, (4,), 2)
    model = cb.VAE(encoder, decoder, cb.GaussianLikelihood(1.0), cb.StandardNormalPrior(2))
    torch.testing.assert_close(model.encode(torch.ones(3, 4)).log_std, encoder(torch.ones(3, 4))[:, 2:])


@pytest.mark.parametrize(("features", "latents"), [(2, 5), (10, 1)])
def test_an_encoder_with_another_number_of_latents_is_refused(features, latents):
    model = cb.VAE(
        nn.Linear(4, features),
        nn.Linear(latents, 4),
        cb.GaussianLikelihood(1.0),
        cb.StandardNormalPrior(latents),
        posterior=cb.GaussianPosterior("log_var"),
    )
    with pytest.raises(ShapeError, match="as many latents as the prior"):
        model.elbo(torch.zeros(3, 4))


@pytest.mark.parametrize("shape", [(6, 1), (6,), (5, 4), (6, 4, 1)])
def test_noise_of_another_shape_is_refused(shape):
    with pytest.raises(ShapeError, match=r"`eps` must be \[K, B, d\] = \[1, 6, 4\]"):
        ready("vae").elbo(X, eps=torch.zeros(shape))
    with pytest.raises(ShapeError, match=r"`eps` must be \[K, B, d\] = \[3, 6, 4\]"):
        ready("vae").draw(X, samples=3, eps=torch.zeros(shape))


@pytest.mark.parametrize("shape", [(4,), (3, 8), (8, 8, 3)])
def test_data_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeError, match=r"\(3, 8, 8\)"):
        ready("vae").elbo(torch.zeros(2, *shape))


def test_a_decoder_of_another_shape_is_refused():
    model = cb.VAE(
        nn.Linear(4, 4), nn.Linear(2, 3), cb.GaussianLikelihood(1.0), cb.StandardNormalPrior(2),
        posterior=cb.GaussianPosterior("log_var"),
    )  # fmt: skip
    with pytest.raises(ShapeError, match=r"event \[4\] and the batch \[1, 5\]"):
        model.elbo(torch.zeros(5, 4))


def test_a_pair_of_half_precision_features_is_widened():
    class Pair(nn.Module):
        def forward(self, x):
            return x.bfloat16(), x.bfloat16()

    posterior = cb.GaussianPosterior("log_std")
    model = cb.VAE(Pair(), nn.Identity(), cb.GaussianLikelihood(1.0), cb.StandardNormalPrior(4), posterior=posterior)
    terms = model.elbo(torch.zeros(3, 4))
    assert terms.kl.dtype == terms.nll.dtype == torch.float32


def test_a_scale_that_is_not_fixed_is_refused_in_eval_mode_only():
    model = cb.build("sigma-vae", data_shape=(3, 8, 8), latent_dim=4, network="mlp")
    model.elbo(X)
    with pytest.raises(ScaleNotFixedError, match="fix_scale"):
        model.eval().elbo(X)
    with pytest.raises(ScaleNotFixedError):
        model.sample(2, observation_noise=True)


def test_summaries_agree_with_the_terms_and_do_not_depend_on_batches():
    model = ready("sigma-vae")
    noise = torch.randn(6, 4)
    terms = model.elbo(X, eps=noise)
    one = summarise(model, [Batch(X, index=INDEX)], noise.__getitem__)
    many = summarise(model, [Batch(X[i : i + 1], index=INDEX[i : i + 1]) for i in range(6)], noise.__getitem__)
    mse = cb.functional.mse(X, model.draw(X, eps=noise[None]).px.mean[0])
    for summary in (one, many):
        assert summary.n == 6
        assert summary.elbo == pytest.approx(terms.elbo.mean().item(), rel=1e-6)
        assert summary.elbos.std().item() == pytest.approx(terms.elbo.std().item(), rel=1e-4)
        assert summary.standard_error == pytest.approx(terms.elbo.std().item() / 6**0.5, rel=1e-4)
        assert summary.mse == pytest.approx(mse.mean().item(), rel=1e-5)
        torch.testing.assert_close(summary.kl_per_dim, terms.kl_per_dim.double().mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(summary.posterior_mean_var, model.encode(X).mean.var(0, correction=0).double())


def test_samples_are_seeded_and_independent_of_the_global_generator():
    model = ready("sigma-vae")
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(drawn))
        drawn.append(model.sample(3, observation_noise=True, generator=torch.Generator().manual_seed(seed)))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_observation_noise_has_the_decoders_spread():
    model = ready("vae", sigma=0.3)
    means, noisy = (
        model.sample(300, observation_noise=noise, generator=torch.Generator().manual_seed(4))
        for noise in (False, True)
    )
    residual = noisy - means
    assert residual.std().item() == pytest.approx(0.3, rel=0.01)
    assert residual.mean().abs().item() < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "gan"}, "one of autoencoder, vae"),
        ({"latent_dim": 0}, "at least 1"),
        ({"likelihood": "poisson"}, "one of bernoulli, gaussian.*got 'poisson'"),
        ({"likelihood": "bernoulli", "sigma": 0.1}, "no scale to set"),
        ({"likelihood": cb.GaussianLikelihood(1.0), "sigma": 0.1}, "Give it to that"),
        ({"likelihood": 3}, "must be a name or a cb.Likelihood; got int"),
        ({"prior": "vamp"}, "one of conditional-gaussian, mixture.*got 'vamp'"),
        ({"prior": cb.StandardNormalPrior(3)}, "over latent_dim = 2 latents; got one over 3"),
        ({"prior": "conditional-gaussian"}, "needs a context; got `context_dim` 0"),
        ({"prior": "mixture:parts=4"}, "no argument 'parts'; it takes latent_dim, components, spread"),
        ({"prior": "mixture:4"}, "NAME:KEY=VALUE"),
        ({"prior": {"components": 4}}, "described by its name and arguments"),
        ({"objective": "gan"}, "one of beta-elbo, iwae"),
        ({"objective": "iwae", "beta": 2.0}, "`beta` has no meaning"),
        ({"objective": cb.BetaELBO(), "kl_warmup": 0.5}, "to the objective itself"),
        ({"sigma_shared": "pixel"}, "`sigma_shared` must be one of all, channel, element"),
        ({"sigma": "best"}, "'learned' or 'optimal'|cannot be made"),
        ({"network": "conv"}, "network='mlp'"),
        ({"data_shape": (1, 2, 3, 4, 5)}, r"\(C, H, W\)"),
        ({"context_dim": -1}, "not negative"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        cb.build(**{"name": "vae", "data_shape": (4,), "latent_dim": 2, **arguments})
    assert "\n" not in str(caught.value)


def test_features_that_a_preset_cannot_give_are_refused():
    class Grid(cb.Posterior):
        def features_shape(self, latent_dim):
            return (latent_dim, 2, 2)

        def forward(self, features):
            raise NotImplementedError

    with pytest.raises(ArgumentError, match=r"Grid wants \(2, 2, 2\).*cb\.VAE"):
        cb.build("vae", data_shape=(4,), latent_dim=2, posterior=Grid())


def conditional(prior="standard-normal", network="mlp"):
    torch.manual_seed(0)
    model = cb.build("vae", data_shape=(3, 8, 8), latent_dim=4, network=network, prior=prior, context_dim=2).eval()
    if prior == "conditional-gaussian":
        nn.init.normal_(model.prior.affine.weight)
    return model


@pytest.mark.parametrize("network", ["linear", "mlp", "conv"])
def test_a_context_reaches_encoder_and_decoder_of_every_network(network):
    model, context = conditional(network=network), torch.eye(2)[[0, 1, 0, 1, 1, 0]]
    eps = torch.randn(2, 6, 4)
    draw = model.draw(Batch(X, context), 2, eps)
    torch.testing.assert_close(draw.q.mean, model.encoder(X, context)[:, :4])
    torch.testing.assert_close(draw.px.mean[1], model.decoder(draw.z[1], context))
    other = model.draw(Batch(X, 1.0 - context), 2, eps)
    assert ((draw.q.mean - other.q.mean).abs().amax(1) > 1e-4).all()
    with torch.no_grad():
        z = torch.zeros(6, 4)
        difference = model.decode(z, context).mean - model.decode(z, 1.0 - context).mean
    assert (difference.abs().flatten(1).amax(1) > 1e-5).all()


def test_a_conditional_prior_is_the_one_of_each_examples_context():
    model, context = conditional("conditional-gaussian"), torch.eye(2)[[0, 1, 0, 1, 1, 0]]
    draw = model.draw(Batch(X, context))
    mean, log_std = (context @ model.prior.affine.weight.T + model.prior.affine.bias).chunk(2, 1)
    expected = kl_divergence(Normal(draw.q.mean, draw.q.stddev), Normal(mean, log_std.exp()))
    torch.testing.assert_close(draw.kl_per_dim, expected)
    alone = model.elbo(X[3:4], context[3:4]).kl
    torch.testing.assert_close(alone, draw.kl[3:4])


def test_samples_of_a_conditional_model_follow_their_context():
    """Each example is decoded from a latent of its own context's prior."""
    model = conditional("conditional-gaussian")
    with torch.no_grad():
        model.prior.affine.bias[4:] = -10.0  # nearly points
        model.prior.affine.weight[4:] = 0.0
    context = torch.eye(2)[[0, 1, 1]]
    drawn = model.sample(3, context=context)
    expected = model.decode(model.prior(context).mean, context).mean
    torch.testing.assert_close(drawn, expected, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(model.sample(3, context=torch.eye(2)[1])[0], expected[1], rtol=1e-2, atol=1e-3)


def test_a_missing_or_superfluous_or_other_context_is_refused():
    model, plain = conditional(), ready("vae")
    for call in (
        lambda: model.elbo(X),
        lambda: model.encode(X),
        lambda: model.draw(X),
        lambda: model.reconstruct(X),
        lambda: model.decode(torch.zeros(2, 4)),
        lambda: model.sample(2),
    ):
        with pytest.raises(ArgumentError, match=r"need a context, \[B, context_dim\]; got none"):
            call()
    for call in (
        lambda: plain.elbo(X, torch.zeros(6, 2)),
        lambda: plain.draw(Batch(X, torch.zeros(6, 2))),
        lambda: plain.reconstruct(X, torch.zeros(6, 2)),
        lambda: plain.sample(2, context=torch.zeros(2)),
    ):
        with pytest.raises(ArgumentError, match="takes no context; got one"):
            call()
    for shape in ((6, 3), (5, 2), (6,), (1, 2)):
        with pytest.raises(ShapeError, match=r"= \[6, 2\]"):
            model.elbo(X, torch.zeros(shape))


def test_latents_are_not_decoded_with_a_context_that_the_model_does_not_take():
    with pytest.raises(ArgumentError, match="takes no context; got one"):
        ready("vae").decode(torch.zeros(2, 4), torch.zeros(2, 2))


def test_a_mask_is_refused_with_what_to_do():
    with pytest.raises(
        ArgumentError, match=r"cannot use a mask.*Fill the missing values, drop the mask, or take a mixed likelihood"
    ):
        ready("vae").draw(Batch(X, mask=torch.ones_like(X)))


def test_integers_are_refused_by_every_verb_that_scores():
    model = ready("vae")
    bytes_ = (255 * X).to(torch.uint8)
    for call in (model.reconstruct, model.elbo):
        with pytest.raises(ArgumentError, match=r"takes floats on its own scale; got torch\.uint8.*run\.reconstruct"):
            call(bytes_)


def trained_on_unit_data():
    model = ready("vae")
    spec = cb._types.DataSpec((3, 8, 8))
    model.initialise_from_data(spec, X.mean(0), (X - X.mean(0)).square().mean().sqrt())
    return model


@pytest.mark.parametrize("factor", [255.0, -1.0, 1.2])
def test_values_on_another_scale_are_refused_when_the_range_is_known(factor):
    model = trained_on_unit_data()
    assert model.data_range == (0.0, 1.0)
    for call in (model.reconstruct, model.elbo):
        call(X)
        call(X * 1.04)  # a little beyond: resampled pictures, noise
        with pytest.raises(ArgumentError, match=r"from 0 to 1; got values from .*run\.reconstruct"):
            call(factor * torch.linspace(0, 1, X.numel()).reshape(X.shape))
    ready("vae").reconstruct(255.0 * X)  # whose range is not known


def test_the_range_is_that_of_the_present_data():
    model = trained_on_unit_data()
    spec = cb._types.DataSpec((3, 8, 8), levels=None, preparation="identity", scale="as they are")
    model.initialise_from_data(spec, X.mean(0), torch.tensor(1.0))
    assert model.data_range is None
    model.reconstruct(255.0 * X)


def test_initialising_from_data_starts_at_their_mean():
    """A fresh network standardises its input, and its output is the data's mean where its last layer gives zero."""
    model = ready("sigma-vae")
    mean, std = X.mean(0), (X - X.mean(0)).square().mean().sqrt()
    model.initialise_from_data(cb._types.DataSpec((3, 8, 8)), mean, std)
    assert model.likelihood.scale.floor == pytest.approx(1 / 256 / 12**0.5)
    standardised = model.encoder.standardise(X)
    torch.testing.assert_close(standardised, (X - mean) / std)
    with torch.no_grad():
        for parameter in model.decoder.body.parameters():
            parameter.zero_()
    torch.testing.assert_close(model.decoder(torch.zeros(1, 4))[0], mean)


@pytest.mark.parametrize("sigma", ["learned", "optimal", 0.2])
def test_a_config_builds_the_same_model(sigma):
    model = ready("sigma-vae", sigma=sigma, sigma_shared="element")
    again = build_from_config(ModelConfig(**json.loads(json.dumps(model.config.to_dict()))))
    again.load_state_dict(model.state_dict())
    eps = torch.randn(6, 4)
    assert torch.equal(again.eval().elbo(X, eps=eps).elbo, model.elbo(X, eps=eps).elbo)


def test_walks():
    square = interpolation(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), 3)
    assert square.reshape(3, 3, 2)[1, 2].tolist() == [1.0, 0.5]
    with pytest.raises(ArgumentError, match="2 or 4 corners"):
        interpolation(torch.zeros(3, 2), 3)
    walk = traversal(torch.zeros(3), torch.tensor([2, 0]), 5)
    assert walk.shape == (10, 3)
    assert walk[:5, 2].tolist() == [-3.0, -1.5, 0.0, 1.5, 3.0]
    assert walk[:5, :2].abs().max() == 0
    with pytest.raises(ArgumentError, match="at least 2 steps"):
        traversal(torch.zeros(3), torch.tensor([0]), 1)


def test_evaluating_restores_the_mode_of_every_submodule_even_after_an_error():
    model = ready("vae").train()
    model.encoder.eval()
    before = {name: module.training for name, module in model.named_modules()}
    assert len(set(before.values())) == 2

    def interrupted():
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            assert not torch.is_grad_enabled()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.is_grad_enabled()
