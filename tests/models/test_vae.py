"""The composition, its presets, and anybody's modules."""

import pytest
import torch
from torch import nn

import calibrae as cb
from calibrae.errors import ArgumentError, NoDensityError, ShapeError, UnfrozenSigmaError
from calibrae.models import PRESETS, build_from_config, fix_sigma, interpolation, summarise, traversal

X = torch.rand(6, 3, 8, 8)


def ready(name, **kwargs):
    model = cb.build(name, data_shape=(3, 8, 8), latent_dim=4, network="mlp", **kwargs)
    fix_sigma(model, [(0, X)], lambda a, b: torch.zeros(b - a, 4))
    return model.eval()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_do_what_models_do(name):
    model = ready(name)
    assert model.encode(X).mean.shape == (6, 4)
    assert model.decode(torch.zeros(2, 4)).shape == (2, 3, 8, 8)
    assert model.reconstruct(X).shape == X.shape
    if name == "autoencoder":
        for call in (lambda: model.elbo(X), lambda: model.sample(2)):
            with pytest.raises(NoDensityError, match="sigma-vae"):
                call()
        return
    terms = model.elbo(X)
    assert terms.nll.shape == terms.elbo.shape == (6,)
    assert terms.kl.shape == (6, 4)
    torch.testing.assert_close(terms.elbo, -(terms.nll + terms.kl.sum(1)))
    assert model.sample(3).shape == model.sample(3, noise=True).shape == (3, 3, 8, 8)


@pytest.mark.parametrize(
    ("name", "sigma", "beta"), [("vae", 1.0, 1.0), ("beta-vae", 1.0, 4.0), ("sigma-vae", "optimal", 1.0)]
)
def test_presets_are_what_the_literature_calls_so(name, sigma, beta):
    model = cb.build(name, data_shape=(4,), latent_dim=2)
    assert model.config.arguments["sigma"] == sigma
    assert model.objective.beta == beta


def test_the_vae_preset_is_half_sse_plus_kl():
    """Pythae's and the textbook's loss, up to the constant that we keep."""
    model = ready("vae")
    noise = torch.randn(6, 4)
    output = model(X, noise)
    half_sse = 0.5 * (X - output.likelihood.mean).square().flatten(1).sum(1)
    q = output.posterior
    kl = -0.5 * (1 + 2 * q.log_std - q.mean**2 - (2 * q.log_std).exp()).sum(1)
    constant = 0.5 * 192 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(-model.elbo(X, noise).elbo, half_sse + constant + kl)


def test_what_is_reported_as_the_elbo_has_beta_one():
    plain, weighted = ready("vae"), ready("beta-vae")
    weighted.load_state_dict(plain.state_dict())
    noise = torch.randn(6, 4)
    torch.testing.assert_close(plain.elbo(X, noise).elbo, weighted.elbo(X, noise).elbo)
    terms = plain.elbo(X, noise)
    torch.testing.assert_close(cb.BetaELBO(3.0).loss(terms, 0), (terms.nll + 3 * terms.kl.sum(1)).mean())


def test_warm_up_rises_to_beta_and_stays():
    objective = cb.BetaELBO(2.0, warmup_steps=10)
    assert [objective.weight(step) for step in (0, 5, 10, 99)] == [0.0, 1.0, 2.0, 2.0]
    with pytest.raises(ArgumentError, match="not negative"):
        cb.BetaELBO(-1.0)


def test_anybodys_modules_drop_in():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.mean, self.log_std = nn.Linear(192, 16), nn.Linear(16, 4), nn.Linear(16, 4)

        def forward(self, x):
            h = self.body(x.flatten(1)).relu()
            return self.mean(h), self.log_std(h)

    decoder = nn.Sequential(nn.Linear(4, 192), nn.Unflatten(1, (3, 8, 8)))
    model = cb.VAE(Encoder(), decoder, cb.GaussianLikelihood("learned", "channel"), cb.StandardNormalPrior(4))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(60):
        loss = model.objective.loss(model.elbo(X), step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert model.likelihood.sigma.raw.shape == (3,)


@pytest.mark.parametrize(("features", "latents"), [(2, 5), (10, 1)])
def test_an_encoder_with_another_number_of_latents_is_refused(features, latents):
    model = cb.VAE(
        nn.Linear(4, features), nn.Linear(latents, 4), cb.GaussianLikelihood(1.0), cb.StandardNormalPrior(latents)
    )
    with pytest.raises(ShapeError, match="as many latents as the prior"):
        model.elbo(torch.zeros(3, 4))
    with pytest.raises(ShapeError, match="`noise` must be"):
        ready("vae").elbo(X, torch.zeros(6, 1))


def test_a_pair_of_half_precision_features_is_widened():
    class Pair(nn.Module):
        def forward(self, x):
            return x.bfloat16(), x.bfloat16()

    model = cb.VAE(Pair(), nn.Identity(), cb.GaussianLikelihood(1.0), cb.StandardNormalPrior(4))
    assert model.elbo(torch.zeros(3, 4)).kl.dtype == torch.float32


def test_an_unfrozen_sigma_is_refused_in_eval_mode_only():
    model = cb.build("sigma-vae", data_shape=(3, 8, 8), latent_dim=4, network="mlp")
    model.elbo(X)
    with pytest.raises(UnfrozenSigmaError, match="calibrate_sigma"):
        model.eval().elbo(X)
    with pytest.raises(UnfrozenSigmaError):
        model.sample(2, noise=True)
    assert model.sample(2).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("shared", ["all", "channel", "element"])
def test_calibration_is_the_root_mean_square_over_the_whole_set(shared):
    model = cb.build("sigma-vae", data_shape=(3, 8, 8), latent_dim=4, network="mlp", sigma_shared=shared)
    noise = torch.randn(6, 4)
    batches = [(0, X[:1]), (1, X[1:5]), (5, X[5:])]
    fix_sigma(model, batches, lambda a, b: noise[a:b])
    with torch.no_grad():
        expected = cb.functional.optimal_sigma(X, model(X, noise).likelihood.mean, shared)
    torch.testing.assert_close(model.likelihood.sigma.log_sigma.exp(), expected)


def test_summaries_agree_with_the_terms_and_do_not_depend_on_batches():
    model = ready("sigma-vae")
    noise = torch.randn(6, 4)
    terms = model.elbo(X, noise)
    one = summarise(model, [(0, X)], lambda a, b: noise[a:b])
    many = summarise(model, [(i, X[i : i + 1]) for i in range(6)], lambda a, b: noise[a:b])
    for summary in (one, many):
        assert summary.elbo == pytest.approx(terms.elbo.mean().item(), rel=1e-6)
        assert summary.elbos.std().item() == pytest.approx(terms.elbo.std().item(), rel=1e-4)
        assert summary.mse == pytest.approx(
            cb.functional.mse(X, model(X, noise).likelihood.mean).mean().item(), rel=1e-5
        )
        torch.testing.assert_close(summary.posterior_mean_var, model.encode(X).mean.var(0, correction=0).double())


def test_a_config_builds_the_same_model():
    import json

    model = ready("sigma-vae", sigma="learned", sigma_shared="element")
    from calibrae.models import ModelConfig

    again = build_from_config(ModelConfig(**json.loads(json.dumps(model.config.to_dict()))))
    again.load_state_dict(model.state_dict())
    noise = torch.randn(6, 4)
    assert torch.equal(again.eval().elbo(X, noise).elbo, model.elbo(X, noise).elbo)


def test_samples_are_seeded():
    model = ready("sigma-vae")
    a, b = (model.sample(3, noise=True, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "gan"}, "one of autoencoder, vae"),
        ({"latent_dim": 0}, "at least 1"),
        ({"likelihood": "poisson"}, "gaussian or bernoulli"),
        ({"likelihood": "bernoulli", "sigma": 0.1}, "no sigma"),
        ({"network": "conv"}, "network='mlp'"),
        ({"data_shape": (1, 2, 3, 4)}, r"\(C, H, W\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        cb.build(**{"name": "vae", "data_shape": (4,), **arguments})


def test_walks():
    square = interpolation(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), 3)
    assert square.reshape(3, 3, 2)[1, 2].tolist() == [1.0, 0.5]
    with pytest.raises(ArgumentError, match="2 or 4 corners"):
        interpolation(torch.zeros(3, 2), 3)
    walk = traversal(torch.zeros(3), torch.tensor([2, 0]), 5)
    assert walk.shape == (10, 3)
    assert walk[:5, 2].tolist() == [-3.0, -1.5, 0.0, 1.5, 3.0]
    assert walk[:5, :2].abs().max() == 0


def test_calibrating_takes_a_tensor_or_a_loader_and_a_seed():
    model = cb.build("sigma-vae", data_shape=(3, 8, 8), latent_dim=4, network="mlp")
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, torch.arange(6)), batch_size=4)
    sigma = cb.calibrate_sigma(model, X, seed=1)
    noise = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = cb.functional.optimal_sigma(X, model.train()(X, noise).likelihood.mean)
    torch.testing.assert_close(sigma, expected)
    assert torch.equal(cb.calibrate_sigma(model, X, seed=1), sigma)
    torch.testing.assert_close(cb.calibrate_sigma(model, loader, seed=1), sigma, rtol=0.05, atol=0)
    with pytest.raises(ArgumentError, match="got none"):
        cb.calibrate_sigma(model, [])


def test_calibrating_leaves_other_sigmas_alone():
    model = cb.build("vae", data_shape=(3, 8, 8), latent_dim=4, network="mlp")
    assert cb.calibrate_sigma(model, X) == 1.0
    assert (
        cb.calibrate_sigma(cb.VAE(nn.Flatten(), nn.Identity(), cb.BernoulliLikelihood(), cb.StandardNormalPrior(4)), X)
        is None
    )
