"""Components that the package does not know, taken through all that a preset can do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import (
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
    TransformedDistribution,
)
from torch.distributions.transforms import AffineTransform, TanhTransform

import calibrae as cb

SHAPE, LATENTS = (1, 8, 8), 2


class StudentLikelihood(cb.Likelihood):
    """Student-t with a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-2.0))

    def forward(self, output):
        return Independent(StudentT(5.0, output, self.log_scale.exp(), validate_args=False), 3, validate_args=False)


class LevelsLikelihood(cb.Likelihood):
    """Probabilities of the 17 grey levels of the digits: a Laplace density, summed over each level."""

    support, is_density = "levels", False

    def forward(self, output):
        centres = torch.arange(17.0)
        weights = Laplace(output[..., None], 2.0, validate_args=False).log_prob(centres)
        return Independent(Categorical(logits=weights, validate_args=False), 3, validate_args=False)


class StudentPrior(cb.Prior):
    """Student-t with a learned width."""

    def __init__(self) -> None:
        super().__init__(LATENTS)
        self.log_width = nn.Parameter(torch.zeros(LATENTS))

    def forward(self, context=None):
        return Independent(StudentT(torch.full((LATENTS,), 9.0), 0.0, self.log_width.exp(), validate_args=False), 1)


class TwoHills(cb.Prior):
    """Mixture of two full Gaussians with a learned distance."""

    def __init__(self) -> None:
        super().__init__(LATENTS)
        self.distance = nn.Parameter(torch.tensor(1.0))

    def forward(self, context=None):
        means = torch.stack([self.distance.expand(LATENTS), -self.distance.expand(LATENTS)])
        return MixtureSameFamily(Categorical(torch.ones(2)), MultivariateNormal(means, torch.eye(LATENTS)))


class FullPosterior(cb.Posterior):
    """Gaussian with a full covariance."""

    def features_shape(self, latent_dim):
        return (latent_dim + latent_dim**2,)

    def forward(self, features):
        mean, rest = features[:, :LATENTS], features[:, LATENTS:].reshape(-1, LATENTS, LATENTS)
        tril = rest.tril(-1) + torch.diag_embed(rest.diagonal(dim1=1, dim2=2).exp())
        return MultivariateNormal(mean, scale_tril=tril, validate_args=False)


class SquashedPosterior(cb.Posterior):
    """Gaussian squeezed into a box by a tanh, as a flow would: no mean, no closed form of anything."""

    def features_shape(self, latent_dim):
        return (2 * latent_dim,)

    def forward(self, features):
        mean, log_std = features.chunk(2, 1)
        base = Independent(Normal(mean, log_std.exp(), validate_args=False), 1, validate_args=False)
        return _WithMean(base, [TanhTransform(cache_size=1), AffineTransform(0.0, 4.0, event_dim=1)])


class _WithMean(TransformedDistribution):
    def __init__(self, base, transforms):
        super().__init__(base, transforms, validate_args=False)

    @property
    def mean(self):
        return 4.0 * torch.tanh(self.base_dist.mean)

    @property
    def stddev(self):
        return 4.0 * self.base_dist.stddev / torch.cosh(self.base_dist.mean).square()


class FreeNats(cb.Objective):
    """KL that is free up to a number of nats, rising with the steps."""

    def schedule(self, step, total):
        return {"free": 2.0 * step / max(total, 1)}

    def __call__(self, draw, weights):
        nll = draw.nll.mean(0)
        return cb.Terms(nll + torch.clamp_min(draw.kl, weights["free"]), {"nll": nll, "kl": draw.kl})


class ThreeSamples(cb.Objective):
    """Mean of three samples and half the KL estimated from them."""

    samples = 3

    def __call__(self, draw, weights):
        kl = (draw.log_q - draw.log_p).mean(0)
        return cb.Terms(draw.nll.mean(0) + 0.5 * kl, {"reconstruction": draw.nll.mean(0), "kl_estimate": kl})


class ClassPrior(cb.Prior):
    """Gaussian whose mean is that of its class."""

    def __init__(self) -> None:
        super().__init__(LATENTS)
        self.means = nn.Parameter(torch.zeros(10, LATENTS))

    def forward(self, context=None):
        mean = context @ self.means
        return Independent(Normal(mean, torch.ones_like(mean), validate_args=False), 1, validate_args=False)


@dataclass(frozen=True)
class Case:
    """A composition, and what it is trained on."""

    make: Callable[[], cb.VAE]
    condition: Any = None


def built(**parts: Any) -> Callable[[], cb.VAE]:
    """A small model with some parts of one's own."""
    options = cb.NetworkOptions(hidden=(16,))

    def make() -> cb.VAE:
        made = {name: part() if isinstance(part, type) else part for name, part in parts.items()}
        return cb.build("sigma-vae", data_shape=SHAPE, latent_dim=LATENTS, network="mlp", options=options, **made)

    return make


CASES = {
    "student likelihood": Case(built(likelihood=StudentLikelihood)),
    "levels": Case(built(likelihood=LevelsLikelihood)),
    "student prior": Case(built(prior=StudentPrior)),
    "two hills": Case(built(prior=TwoHills)),
    "full posterior": Case(built(posterior=FullPosterior)),
    "squashed posterior": Case(built(posterior=SquashedPosterior)),
    "free nats": Case(built(objective=FreeNats)),
    "three samples": Case(built(objective=ThreeSamples)),
    "class prior": Case(built(prior=ClassPrior, context_dim=10), condition="label"),
    "all at once": Case(
        built(likelihood=StudentLikelihood, prior=TwoHills, posterior=FullPosterior, objective=FreeNats)
    ),
    "registered": Case(built(likelihood="laplace", prior="mixture:components=3", objective="iwae:samples=2")),
    "registered, conditional": Case(
        built(likelihood="gaussian-per-example", prior="conditional-gaussian", context_dim=10), condition="label"
    ),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fitted(case: Case, out: Path, **how: Any) -> cb.Run:
    torch.manual_seed(0)
    settings = {"seed": 1, "precision": "fp32", "compile": "off", "quiet": True, "pictures": False, "batch_size": 256}
    return cb.fit(case.make(), "digits", out, condition=case.condition, **(settings | how))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_part_of_ones_own_does_all_that_a_preset_does(name, tmp_path):
    case = CASES[name]
    whole = fitted(case, tmp_path / "whole", epochs=4)
    fitted(case, tmp_path / "parts", epochs=4, stop_after=2)
    parts = fitted(case, tmp_path / "parts", resume=True)
    states = zip(whole.model.state_dict().items(), parts.model.state_dict().items(), strict=True)
    changed = [name for (name, a), (_, b) in states if not torch.equal(a, b)]
    assert not changed
    keys = [key for key in whole.history[0] if key != "seconds"]
    assert [[row[k] for k in keys] for row in whole.history] == [[row[k] for k in keys] for row in parts.history]

    record = whole.evaluate(importance_samples=100)
    slack = 4 * (record.elbo_standard_error + record.log_likelihood_standard_error)
    assert record.log_likelihood_nats > record.elbo_nats - slack
    work = {"examples": 20, "importance_samples": (1, 50), "annealed_examples": 2, "temperatures": 5}
    full = cb.evaluate_full(whole, **work, pictures=False).to_dict()
    assert math.isfinite(full["elbo_nats"])
    assert math.isfinite(full["bidirectional_gap_nats"])
    assert {finding.severity for finding in whole.diagnose()} <= {"error", "warning", "note"}
    assert str(record).startswith("examples          180 (test)")

    loaded = cb.load(tmp_path / "whole", model=case.make())
    again = cb.evaluate(tmp_path / "whole", model=loaded)
    assert again.elbo_nats == pytest.approx(record.elbo_nats, rel=1e-6)
    condition = 3 if case.condition else None
    assert whole.sample(5, condition=condition).shape == (5, *SHAPE)
    assert whole.sample(5, condition=condition).dtype == np.uint8
    assert whole.encode().shape == (180, LATENTS)
    assert whole.reconstruct(n=4).shape == (4, *SHAPE)
    cb.testing.assert_step_follows_objective(loaded, whole.data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in CASES if "per-example" not in name and name != "registered, conditional"]
)
def test_the_audit_judges_the_very_objective(name, tmp_path):
    case = CASES[name]
    run = fitted(case, tmp_path / "run", epochs=1)
    record = run.audit()
    assert record.to_dict()


def test_an_audit_says_in_one_line_what_it_cannot_probe(tmp_path):
    run = fitted(Case(built(likelihood="gaussian-per-example")), tmp_path / "run", epochs=1)
    with pytest.raises(cb.errors.ArgumentError, match="probes loss\\(x, x_hat, mu, logvar\\)") as caught:
        run.audit()
    assert "\n" not in str(caught.value)


def test_bits_of_ones_own_probabilities_have_no_levels_added(tmp_path):
    run = fitted(CASES["levels"], tmp_path / "run", epochs=1)
    record = run.evaluate()
    assert record.bits_per_dim == pytest.approx(-record.elbo_nats / (64 * math.log(2.0)))
    assert run.data.spec.preparation == "integers"
    assert all((batch.x == batch.x.round()).all() for batch in run.data.batches("test", 64))


def test_own_modules_and_parts_need_their_code_to_be_loaded(tmp_path):
    fitted(CASES["two hills"], tmp_path / "run", epochs=1)
    with pytest.raises(cb.errors.RunError, match="composed of your own modules"):
        cb.load(tmp_path / "run")


def test_registered_parts_are_loaded_without_their_code(tmp_path):
    case = CASES["registered"]
    run = fitted(case, tmp_path / "run", epochs=1)
    opened = cb.open_run(tmp_path / "run")
    assert opened.model.config == run.model.config
    assert opened.evaluate().elbo_nats == pytest.approx(run.evaluate().elbo_nats, rel=1e-6)
    assert opened.audit().to_dict()


def test_the_label_changes_what_is_drawn():
    digits = load_digits()
    options = cb.NetworkOptions(hidden=(64,))
    torch.manual_seed(0)
    model = cb.build("sigma-vae", data_shape=SHAPE, latent_dim=2, network="mlp", context_dim=10, options=options)
    images = digits.images[:, None].astype("uint8")
    run = cb.fit(model, images, condition=digits.target, epochs=15, quiet=True, pictures=False)
    drawn = {label: run.sample(32, condition=label).astype(float).mean(0) for label in (0, 1, 7)}
    truth = {label: digits.images[digits.target == label].mean(0) for label in (0, 1, 7)}
    for label, mean in drawn.items():
        distances = {other: np.square(mean[0] - image).sum() for other, image in truth.items()}
        assert min(distances, key=distances.get) == label
