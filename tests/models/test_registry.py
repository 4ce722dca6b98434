"""Components by name: what is registered, how it is described, and that a description makes it again."""

import itertools
import json
import sys

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

import calibrae as cb
from calibrae import _registry
from calibrae._registry import component, create, describe, find, names, parameters_of, parse
from calibrae.errors import ArgumentError
from calibrae.models import ModelConfig, build_from_config


@pytest.fixture
def _own_registry(monkeypatch):
    """A registry that forgets what a test adds."""
    monkeypatch.setattr(_registry, "_CLASSES", {kind: dict(known) for kind, known in _registry._CLASSES.items()})


OURS = {
    "likelihood": {"bernoulli", "gaussian", "gaussian-per-example", "laplace", "mixed"},
    "posterior": {"gaussian", "point"},
    "prior": {"conditional-gaussian", "mixture", "none", "standard-normal"},
    "objective": {"beta-elbo", "iwae", "reconstruction"},
}
MIXED_COLUMN = {
    "name": "a", "head": "bernoulli", "scale": 1.0, "is_positive": False, "knots": [0.0, 1.0], "scores": [0.0, 1.0],
    "shares": [0.25, 0.75], "atom": 0.0, "mean": 0.0, "variance": 1.0, "missing": 0.0,
}  # fmt: skip
DESCRIPTIONS = [
    ("likelihood", {"name": "gaussian"}),
    ("likelihood", {"name": "gaussian", "sigma": 0.25}),
    ("likelihood", {"name": "gaussian", "sigma": "learned", "shared": "channel", "floor": 0.01, "initial_sigma": 0.5}),
    ("likelihood", {"name": "laplace", "scale": "optimal", "shared": "element"}),
    ("likelihood", {"name": "laplace", "scale": 2.0}),
    ("likelihood", {"name": "bernoulli"}),
    ("likelihood", {"name": "gaussian-per-example", "floor": 0.125}),
    ("likelihood", {"name": "mixed", "columns": [MIXED_COLUMN]}),
    ("posterior", {"name": "gaussian", "spread": "log_var"}),
    ("posterior", {"name": "point"}),
    ("prior", {"name": "standard-normal", "latent_dim": 3}),
    ("prior", {"name": "mixture", "latent_dim": 3, "components": 4, "spread": 0.5}),
    ("prior", {"name": "conditional-gaussian", "latent_dim": 3, "context_dim": 2}),
    ("prior", {"name": "none", "latent_dim": 3}),
    ("objective", {"name": "beta-elbo", "beta": 4.0, "kl_warmup": 0.5}),
    ("objective", {"name": "iwae", "samples": 7}),
    ("objective", {"name": "reconstruction"}),
]


@pytest.mark.parametrize("kind", OURS)
def test_what_is_registered(kind):
    found = {name: find(kind, name) for name in names(kind)}
    ours = {name for name, cls in found.items() if vars(sys.modules.get(cls.__module__, cb)).get(cls.__name__) is cls}
    assert ours == OURS[kind]
    assert names(kind) == sorted(names(kind))
    described = {description["name"] for of, description in DESCRIPTIONS if of == kind}
    assert described == OURS[kind]  # each is made again below


@pytest.mark.parametrize(
    ("kind", "description"), DESCRIPTIONS, ids=lambda part: part if isinstance(part, str) else part["name"]
)
def test_a_description_makes_the_component_and_the_component_gives_the_description(kind, description):
    stored = json.loads(json.dumps(description))
    made = create(kind, stored)
    assert type(made) is find(kind, description["name"])
    assert describe(made) == description
    again = create(kind, describe(made))
    assert describe(again) == description
    for name, value in description.items():
        if name not in ("name", "sigma", "scale", "floor", "shared", "initial_sigma") and hasattr(again, name):
            assert json.loads(json.dumps(_registry._plain(getattr(again, name)))) == value
    if isinstance(made, nn.Module):
        assert {k: v.shape for k, v in made.state_dict().items()} == {k: v.shape for k, v in again.state_dict().items()}
    scale = getattr(made, "scale", None)
    if isinstance(scale, cb.Scale):
        assert (scale.choice, scale.shared, scale.floor) == (again.scale.choice, again.scale.shared, again.scale.floor)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mixture", {"name": "mixture"}),
        ("mixture:components=4,spread=0.5", {"name": "mixture", "components": 4, "spread": 0.5}),
        ("gaussian: sigma = learned , shared=all", {"name": "gaussian", "sigma": "learned", "shared": "all"}),
        ("a:b=1e-3,c=true,d=FALSE,e=-2", {"name": "a", "b": 0.001, "c": True, "d": False, "e": -2}),
        ("a:b=x=y", {"name": "a", "b": "x=y"}),
    ],
)
def test_what_users_type_is_read(text, expected):
    found = parse(text)
    assert found == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected.values()]


def test_what_is_typed_makes_what_a_call_makes():
    torch.manual_seed(0)
    typed = create("prior", "mixture:components=4,spread=0.5", latent_dim=3, context_dim=9)
    torch.manual_seed(0)
    called = cb.MixturePrior(3, components=4, spread=0.5)
    assert torch.equal(typed.means, called.means)
    assert create("objective", "beta-elbo:beta=2,kl_warmup=0.5") == cb.BetaELBO(2.0, 0.5)
    assert create("likelihood", "laplace:scale=0.5").scale.summary() == pytest.approx(0.5)


def test_what_is_offered_is_taken_where_it_is_meant_and_what_is_asked_for_wins():
    assert describe(create("prior", "standard-normal", latent_dim=3, context_dim=9)) == {
        "name": "standard-normal",
        "latent_dim": 3,
    }
    assert create("objective", "beta-elbo:beta=2", beta=7.0).beta == 2.0
    assert create("objective", "beta-elbo", beta=7.0).beta == 7.0


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        (
            "prior",
            "vamp",
            r"`prior` must be one of conditional-gaussian, mixture.*got 'vamp'.*@cb\.component\(\"vamp\"\)",
        ),
        ("prior", "", "must be one of"),
        ("likelihood", "standard-normal", "must be one of bernoulli"),
        ("prior", "mixture:parts=4", "has no argument 'parts'; it takes latent_dim, components, spread"),
        ("objective", "reconstruction:beta=1", "has no argument 'beta'; it takes none"),
        ("prior", {"name": "mixture", "latent_dim": 2, "weights": [1, 2]}, "no argument 'weights'"),
        ("prior", "mixture:components", "NAME:KEY=VALUE,KEY=VALUE; got 'mixture:components'"),
        ("prior", "mixture", "needs latent_dim"),
        ("prior", {"components": 4}, "described by its name and arguments"),
        ("prior", {"name": 4}, "described by its name and arguments"),
        ("prior", {"name": "mixture", "latent_dim": 2, "components": "many"}, "cannot be made"),
        ("prior", {"name": "mixture", "latent_dim": 2, "components": 0}, "must be at least 1"),
        ("objective", "beta-elbo:beta=-1", "not negative"),
    ],
)
def test_unknown_names_and_arguments_are_refused_in_one_line(kind, spec, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        create(kind, spec)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_own_registry")
def test_only_the_four_kinds_are_registered_and_each_name_once():
    with pytest.raises(ArgumentError, match="must be a Likelihood, Posterior, Prior or Objective; got Linear"):
        component("linear")(nn.Linear)

    class Other(cb.Objective):
        def __call__(self, draw, weights):
            raise NotImplementedError

    with pytest.raises(ArgumentError, match="the name 'iwae' belongs to IWAE already"):
        component("iwae")(Other)
    component("other")(Other)
    component("other")(Other)  # a module that is loaded again


class Wide(cb.Prior):
    """A prior with a number, a list and a flag."""

    def __init__(self, latent_dim, spreads, trained=False):
        super().__init__(latent_dim)
        self.spreads, self.trained = list(spreads), trained

    def forward(self, context=None):
        return Independent(Normal(torch.zeros(self.latent_dim), torch.tensor(self.spreads)), 1)


class Tempered(cb.Prior):
    """A prior made from two others: a component within a component, and one within a list."""

    def __init__(self, base, others=(), temperature=1.0):
        super().__init__(base.latent_dim)
        self.base, self.others, self.temperature = base, nn.ModuleList(others), temperature

    def forward(self, context=None):
        base = self.base(context)
        return Independent(Normal(base.mean, self.temperature * base.stddev), 1)


@pytest.mark.usefixtures("_own_registry")
def test_arguments_are_kept_as_they_were_given_whatever_their_form():
    component("wide")(Wide)
    for made in (Wide(2, (1.0, 2.0)), Wide(2, spreads=[1.0, 2.0]), Wide(latent_dim=2, spreads=(1.0, 2.0))):
        assert describe(made) == {"name": "wide", "latent_dim": 2, "spreads": [1.0, 2.0]}
    again = create("prior", json.loads(json.dumps(describe(Wide(2, (1.0, 2.0), trained=True)))))
    assert again.trained
    assert torch.equal(again().stddev, torch.tensor([1.0, 2.0]))
    assert describe(Wide(2, torch.ones(2))) is None  # a tensor is not plain data
    assert describe(Wide(2, [object()])) is None


@pytest.mark.usefixtures("_own_registry")
def test_components_within_components_make_the_round_trip():
    component("wide")(Wide)
    component("tempered")(Tempered)
    made = Tempered(Wide(2, [1.0, 2.0]), [cb.StandardNormalPrior(2), cb.MixturePrior(2, components=3)], temperature=3.0)
    stored = json.loads(json.dumps(describe(made)))
    again = create("prior", stored)
    assert describe(again) == describe(made)
    assert isinstance(again.base, Wide)
    assert [type(other) for other in again.others] == [cb.StandardNormalPrior, cb.MixturePrior]
    assert torch.equal(again().stddev, torch.tensor([3.0, 6.0]))
    twice = create("prior", describe(Tempered(made)))
    assert isinstance(twice.base.base, Wide)
    assert describe(Tempered(cb.DistributionPrior(made()))) is None  # of which no name is known


@pytest.mark.usefixtures("_own_registry")
def test_a_subclass_is_another_class():
    component("wide")(Wide)

    class Wider(Wide):
        pass

    class Widest(Wide):
        def __init__(self, latent_dim):
            super().__init__(latent_dim, [9.0] * latent_dim)

    assert describe(Wider(2, [1.0, 1.0])) is None
    component("widest")(Widest)
    assert describe(Widest(2)) == {"name": "widest", "latent_dim": 2}
    component("wider")(Wider)
    assert describe(Wider(2, [1.0, 1.0])) == {"name": "wider", "latent_dim": 2, "spreads": [1.0, 1.0]}
    assert describe(Wide(1, [1.0])) == {"name": "wide", "latent_dim": 1, "spreads": [1.0]}


def test_parameters_are_told_by_name():
    assert list(parameters_of(cb.GaussianLikelihood)) == ["sigma", "shared", "floor", "initial_sigma"]
    assert parameters_of(cb.ReconstructionError) == {}


@pytest.mark.usefixtures("_own_registry")
def test_a_model_of_registered_parts_is_plain_data_and_one_of_others_is_not():
    component("wide")(Wide)
    named = cb.build(
        "vae", data_shape=(4,), latent_dim=2, prior={"name": "wide", "spreads": [1.0, 2.0]}, objective="iwae:samples=3"
    )
    assert named.config.parts["prior"] == {"name": "wide", "spreads": [1.0, 2.0], "latent_dim": 2}
    own = cb.build(
        "vae", data_shape=(4,), latent_dim=2, prior=cb.DistributionPrior(Independent(Normal(torch.zeros(2), 1.0), 1))
    )
    assert own.config is None


LIKELIHOODS = [
    "gaussian",
    "gaussian:sigma=learned,shared=channel",
    "gaussian:sigma=0.5",
    "laplace",
    "laplace:scale=learned,shared=element",
    "bernoulli",
    "gaussian-per-example",
    cb.GaussianLikelihood,
    cb.LaplaceLikelihood,
]
PRIORS = ["standard-normal", "mixture:components=3", "conditional-gaussian"]
OBJECTIVES = ["beta-elbo:beta=2,kl_warmup=0.25", "iwae:samples=3", "reconstruction", None]


@pytest.mark.parametrize("preset", ["vae", "beta-vae", "sigma-vae"])
@pytest.mark.parametrize(("prior", "objective"), list(itertools.product(PRIORS, OBJECTIVES)))
def test_every_composition_of_registered_parts_is_built_again_from_its_config(preset, prior, objective):
    """Equal parts, equal state, equal numbers: whatever the preset's own choices are."""
    context_dim = 2 if prior == "conditional-gaussian" else 0
    x, context = torch.rand(5, 2, 3).round(), torch.rand(5, 2) if context_dim else None
    for likelihood in LIKELIHOODS:
        model = cb.build(
            preset,
            data_shape=(2, 3),
            latent_dim=2,
            network="mlp",
            likelihood=likelihood if isinstance(likelihood, str) else likelihood(),
            prior=prior,
            objective=objective,
            context_dim=context_dim,
            options=cb.NetworkOptions(hidden=(3, 4), activation="tanh"),
        )
        stored = json.loads(json.dumps(model.config.to_dict()))
        random_state = torch.random.get_rng_state()
        again = build_from_config(ModelConfig(**stored))
        assert torch.equal(torch.random.get_rng_state(), random_state)
        assert again.config == model.config
        again.load_state_dict(model.state_dict())
        scales = [m.likelihood.scale and (m.likelihood.scale.choice, m.likelihood.scale.shared) for m in (model, again)]
        assert scales[0] == scales[1]
        assert again.objective == model.objective
        losses = []
        for m in (model, again):
            torch.manual_seed(3)
            draw = m.draw(cb.Batch(x, context), m.objective.samples)
            losses.append(m.objective(draw, m.objective.final_weights()).loss)
        assert torch.equal(*losses)


def test_an_autoencoder_and_its_point_posterior_are_built_again():
    model = cb.build("autoencoder", data_shape=(4,), latent_dim=2, network="linear")
    again = build_from_config(ModelConfig(**json.loads(json.dumps(model.config.to_dict()))))
    again.load_state_dict(model.state_dict())
    assert not again.is_probabilistic
    assert torch.equal(again.reconstruct(torch.ones(1, 4)), model.reconstruct(torch.ones(1, 4)))


def test_an_object_without_arguments_keeps_its_own_defaults_and_not_the_presets():
    """`build("vae", likelihood=GaussianLikelihood())` has the optimal scale; its config must not give it the preset's 1."""
    model = cb.build("vae", data_shape=(4,), latent_dim=2, likelihood=cb.GaussianLikelihood())
    assert model.likelihood.scale.choice == build_from_config(model.config).likelihood.scale.choice == "optimal"


@pytest.mark.parametrize("lost", ["data_shape", "latent_dim", "network", "options", "likelihood", "prior"])
def test_a_config_that_lacks_an_entry_is_refused(lost):
    parts = dict(cb.build("vae", data_shape=(4,), latent_dim=2).config.parts)
    del parts[lost]
    with pytest.raises(ArgumentError, match=f"lacks {lost}"):
        build_from_config(ModelConfig("vae", parts))


def test_a_config_of_a_part_that_is_not_registered_here_says_so():
    parts = dict(cb.build("vae", data_shape=(4,), latent_dim=2).config.parts) | {"prior": {"name": "theirs"}}
    with pytest.raises(ArgumentError, match=r"got 'theirs'. Register a class of your own"):
        build_from_config(ModelConfig("vae", parts))
