"""The catalogue against real code's numbers, and against the gradients of the losses written out."""

import dataclasses
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import calibrae.functional as F
from calibrae.errors import ArgumentError
from calibrae.functional import conventions as C

NAMES = sorted(C.catalogue())
SIZES = {"D": 6, "d": 2, "B": 3}


def test_every_row_of_the_survey_is_there():
    assert {c.row for c in C.catalogue().values()} == set(range(37))
    for convention in C.catalogue().values():
        assert convention.same_as is None or convention.same_as in C.catalogue()
        assert convention.power in (1, -1)


@pytest.mark.parametrize(
    ("name", "value", "data_dim", "latent_dim", "batch_size", "sigma"),
    [  # sigma at beta = 1 as worked out for the named projects, to the digits that the survey gives
        ("half-sse", 2.0, 12288, 64, None, 1.41),
        ("sse", 10.0, 12288, 10, None, 2.24),
        ("sse", 1.0, 12288, 32, None, 0.707),
        ("mse", 0.00025, 12288, 128, None, 1.24),
        ("mse-two-weights", 10.0, 12288, 128, None, 3.92),
        ("mse-batch-over-examples", 162770.0, 12288, 128, 144, 2.33),
        ("mse-mean-kl", 0.1, 3072, 256, None, 0.77),
        ("mse-mean-kl", 0.1, 49152, 128, None, 4.38),
        ("mse-mean-kl-unweighted", 1.0, 784, 32, None, 3.5),
        ("mse-weight-mean-kl", 1000.0, 12288, 32, None, 0.44),
        ("mse-weight-mean-kl", 10.0, 12288, 32, None, 4.38),
        ("sse-mean-kl", 4.0, 784, 10, None, 0.447),
        ("nll-mean-kl", 1.0, 3072, 1024, None, 0.00156),
        ("sse-255", 4.0, 12288, 10, None, 0.0886),
        ("nll-unit-softclip", 1.0, 2352, 20, None, 1.0025),
        ("mse-capacity", 10.0, 12288, 128, None, 3.92),
        ("sse-free-bits", 1.0, 12288, 32, None, 0.707),
        ("sse-diffusers", 1e-6, 3072, 4, None, 7.1e-4),
        ("mean-log-cosh", 0.00025, 12288, 128, None, 0.554),
    ],
)
def test_sigmas_of_real_code(name, value, data_dim, latent_dim, batch_size, sigma):
    beside = 0.05 if name == "nll-mean-kl" else None  # alibi-detect's
    sizes = {"data_shape": (data_dim,), "latent_dim": latent_dim, "batch_size": batch_size}
    found = C.translate(value, name, **sizes, sigma=beside)
    assert found.sigma == pytest.approx(sigma, rel=0.01)
    assert found.rho == pytest.approx(2 * found.sigma**2)


@pytest.mark.parametrize(
    ("name", "value", "data_dim", "latent_dim", "batch_size", "beta"),
    [
        ("mean-bce-mean-kl", 0.1, 784, 32, None, 2.45),
        ("mean-bce", 1.0, 784, 2, None, 784.0),
        ("mean-bce-weight-mean-kl", 120.0, 4200, 292, None, 0.12),
        ("mean-ce", 0.05, 36, 128, None, 1.8),
        ("ce-mean-kl", 1.0, 100, 196, None, 1 / 196),
        ("bce-counted-batch", 1.0, 5000, 20, 128, 1 / 128),
        ("bce-kl-per-dim", 1.0, 784, 20, None, 1.0),
        ("beta-norm", 0.0098, 4096, 10, None, 4.0),
    ],
)
def test_betas_of_real_code(name, value, data_dim, latent_dim, batch_size, beta):
    found = C.translate(value, name, data_shape=(data_dim,), latent_dim=latent_dim, batch_size=batch_size)
    assert found.beta == pytest.approx(beta, rel=0.01)


def test_absolute_and_spectral_scales_of_real_code():
    assert C.translate(4.0, "3-sae", data_shape=(9,), latent_dim=2).laplace_scale == pytest.approx(4 / 3)
    assert C.translate(1e-6, "mae", data_shape=(16, 16, 16), latent_dim=2).laplace_scale == pytest.approx(
        0.0041, rel=0.01
    )
    assert C.translate(1e-4, "spectral-no-half", data_shape=(9,), latent_dim=2).ratio == pytest.approx(6.3e-6, rel=0.01)
    assert C.translate(
        1.0, "mse-batch-summed-kl", data_shape=(2352,), latent_dim=2, batch_size=128
    ).rho == pytest.approx(301056)
    assert C.translate(1.0, "sse-batch-mean-kl", data_shape=(9,), latent_dim=2, batch_size=128).rho == pytest.approx(
        1 / 128
    )


@settings(max_examples=25)
@given(
    st.sampled_from(NAMES), st.floats(1e-6, 1e6), st.integers(1, 10**6), st.integers(1, 4096), st.integers(1, 4096),
    st.one_of(st.none(), st.floats(1e-3, 1e3)),
)  # fmt: skip
def test_every_conversion_round_trips(name, value, data_dim, latent_dim, batch_size, sigma):
    sizes = {"data_shape": (data_dim,), "latent_dim": latent_dim, "batch_size": batch_size, "sigma": sigma}
    there = C.translate(value, name, **sizes)
    assert there.equivalents[name] == pytest.approx(value, rel=1e-12)
    for other, number in there.equivalents.items():
        chosen = C.find(other)
        back = C.translate(number, other, **{**sizes, "sigma": there.nll_sigma})
        if name in back.equivalents and not any(isinstance(c.sigma, float) for c in (chosen, C.find(name))):
            assert back.equivalents[name] == pytest.approx(value, rel=1e-12)
        if there.rho is not None and back.rho is not None:
            assert back.rho == pytest.approx(there.rho, rel=1e-12)


def written_out(convention, value, x, x_hat, mean, log_std, sigma):
    """The batch's loss as the convention's formula says, term by term."""
    kl, sse, sae = F.kl_standard_normal(mean, log_std).sum(1), F.sse(x, x_hat), (x - x_hat).abs().sum(1)
    bits = (x > 0).double()
    names = {
        "KL": kl,
        "SSE": sse,
        "MSE": sse / SIZES["D"],
        "SAE": sae,
        "MAE": sae / SIZES["D"],
        "NLL": F.gaussian_nll(x, x_hat, math.log(sigma)).sum(1),
        "BCE": F.bernoulli_nll(bits, x_hat).sum(1),
        "CE": -torch.log_softmax(x_hat, 1)[:, :1].sum(1),
        "LOGCOSH": (torch.log(torch.cosh(10 * (x - x_hat))) / 10).sum(1),
        "SPECTRAL": (torch.fft.rfft(x).abs() - torch.fft.rfft(x_hat).abs()).abs().sum(1),
        "C": 0.1,
        "s": sigma,
        "T": 32,
        "abs": torch.abs,
        "max": lambda a, b: torch.clamp(a, min=b),
        **SIZES,
    }
    formula = re.sub(rf"\b{convention.symbol}\b", f"({value!r})", convention.formula)
    return eval(formula, {}, names).sum()


@pytest.mark.parametrize("name", NAMES)
def test_the_ratio_is_that_of_the_gradients_of_the_written_loss(name):
    """b / a from the formula's own gradients: that of the KL over that of the plain reconstruction term."""
    convention, sigma = C.find(name), 0.7
    value = 1.3 if re.search(rf"\b{convention.symbol}\b", convention.formula) else convention.default
    generator = torch.Generator().manual_seed(1)
    x, x_hat = (torch.randn(3, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    mean = torch.full((3, 2), 3.0, dtype=torch.float64)  # far above any floor or capacity
    log_std = torch.full((3, 2), -1.0, dtype=torch.float64)
    for tensor in (x_hat, mean, log_std):
        tensor.requires_grad_()
    loss = written_out(convention, value, x, x_hat, mean, log_std, sigma)
    term = {
        "nll": "NLL",
        "sse": "SSE",
        "sae": "SAE",
        "bce": "BCE",
        "ce": "CE",
        "log-cosh": "LOGCOSH",
        "spectral": "SPECTRAL",
    }
    bare = written_out(
        dataclasses.replace(convention, formula=term[convention.term]), value, x, x_hat, mean, log_std, sigma
    )
    kl = F.kl_standard_normal(mean, log_std).sum()
    a = ratio_of(torch.autograd.grad(loss, x_hat, retain_graph=True)[0], torch.autograd.grad(bare, x_hat)[0])
    b = ratio_of(torch.autograd.grad(loss, mean)[0], torch.autograd.grad(kl, mean)[0])
    assert convention.ratio(value, {**SIZES, "T": 32}) == pytest.approx(b / a, rel=1e-12)


def ratio_of(gradient, reference):
    quotient = gradient[reference.abs() > 1e-12] / reference[reference.abs() > 1e-12]
    assert quotient.std() <= 1e-10 * quotient.mean().abs()
    return quotient.mean().item()


@given(st.sampled_from([n for n in NAMES if C.find(n).term in ("sse", "sae")]), st.floats(1e-3, 1e3))
def test_rescaled_data_move_rho_by_the_square(name, c):
    """Multiplying data and output by c multiplies the squared error by c squared: rho' = c^2 rho, sigma' = c sigma."""
    sizes = {"data_shape": (5,), "latent_dim": 2, "batch_size": 7}
    one, wide = (C.translate(0.3, name, data_range=(0.0, r), **sizes) for r in (1.0, c))
    if one.sigma is not None:
        assert wide.grey == pytest.approx(one.grey / c, rel=1e-12)
        assert one.kl_budget is None or wide.kl_budget == pytest.approx(one.kl_budget * c**2, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: C.translate(1.0, "mse-ish", data_shape=(4,), latent_dim=2), "must be one of mse"),
        (lambda: C.translate(-1.0, "mse", data_shape=(4,), latent_dim=2), "positive numbers; got value -1"),
        (lambda: C.translate(1.0, "sse-batch-mean-kl", data_shape=(4,), latent_dim=2), "depends on the batch size"),
        (lambda: C.translate(1.0, "mse", data_shape=(4,), latent_dim=2, data_range=(1.0, 0.0)), "lo < hi"),
        (lambda: F.beta_from_convention(1.0, "mse-ish", 4, 2), "must be one of mse"),
        (lambda: F.beta_from_convention(1.0, "mse", 4, 2), "needs a fixed sigma"),
        (lambda: F.beta_from_convention(-1.0, "nll", 4, 2), "positive numbers"),
        (lambda: F.beta_from_convention(1.0, "bce", 4, 2), "not one of a gaussian likelihood"),
        (lambda: F.beta_from_convention(1.0, "sse", 4, 2, likelihood="bernoulli"), "not one of a bernoulli likelihood"),
        (
            lambda: F.beta_from_convention(1.0, "half-sse-capacity", 4, 2, 1.0),
            "has a capacity that calibrae's objective has not",
        ),
        (lambda: F.linear_code(torch.ones(3), 3.0, 0.0, 2), "must be positive"),
        (lambda: F.linear_code(torch.ones(3), 3.0, 1.0, 5), "number of eigenvalues, 3"),
        (lambda: F.beta_from_convention(1.0, "sse", 4, 2, 1.0, likelihood="bernouli"), "gaussian or bernoulli"),
    ],
)
def test_bad_arguments_say_what_to_do(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_a_wrapped_kl_has_no_budget():
    assert C.translate(10.0, "half-sse-capacity", data_shape=(9,), latent_dim=2).kl_budget is None


def test_calibrated_and_chosen_sigmas_share_no_beta():
    chosen = C.translate(1.0, "nll", data_shape=(9,), latent_dim=2, sigma=10.0)
    assert not {"nll-learned-sigma", "nll-optimal-sigma", "nll-data-sigma"} & set(chosen.equivalents)
    calibrated = C.translate(1.0, "nll-optimal-sigma", data_shape=(9,), latent_dim=2)
    assert calibrated.equivalents["nll-learned-sigma"] == 1.0
    assert not {"nll", "mean-nll", "sse"} & set(calibrated.equivalents)


@pytest.mark.parametrize(
    ("name", "value", "sigma", "beta"),
    [
        ("mse", 0.00025, 1.0, 1.536),
        ("sse", 10.0, 1.0, 5.0),
        ("mean-nll", 1.0, None, 12288.0),
        ("sse-diffusers", 1e-6, 0.01, 0.00125),
        ("nll-unit-softclip", 1.0, 0.1, 100.496),
        ("nll", 0.0, None, 0.0),
    ],
)
def test_the_canonical_beta(name, value, sigma, beta):
    assert F.beta_from_convention(value, name, 12288, 128, sigma) == pytest.approx(beta, rel=1e-5)


@pytest.mark.parametrize("rho", [0.02, 0.5, 3.0, 100.0])
@pytest.mark.usefixtures("double")
def test_the_linear_code_is_the_minimum_over_noise_levels(rho):
    """Independent answer: descend SSE + rho KL of a diagonal linear VAE over gain, weight and posterior noise on a grid."""
    variances = torch.tensor([4.0, 1.0, 0.3, 0.05])
    found = F.linear_code(variances, float(variances.sum()), rho, latent_dim=3)
    best = float(variances[3])
    for variance in variances[:3]:
        s2 = torch.linspace(1e-4, 1.0, 4001)[
            :, None
        ]  # posterior variance; the mean is m x with unit aggregate variance
        m2 = torch.linspace(0.0, 1.0, 401)[None] * (1.0 - s2) / variance
        weight = m2.sqrt() * variance / (m2 * variance + s2)  # the best decoder for that encoder
        sse = variance * (1.0 - weight * m2.sqrt()) ** 2 + weight**2 * s2
        kl = 0.5 * (m2 * variance + s2 - 1.0 - s2.log())
        best += float((sse + rho * kl).min())
    assert found.sse + rho * found.kl == pytest.approx(best, rel=2e-3)
    assert found.directions == int((variances[:3] > rho / 2).sum())
