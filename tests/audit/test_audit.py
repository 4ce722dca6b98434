"""Adapters, arguments, our own models, and what cannot be called."""

import json

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

import calibrae as cb
from calibrae.audit import ProbeError, audit_loss, module_loss
from calibrae.errors import ArgumentError
from calibrae.models import PRESETS
from calibrae.objectives import vae_loss

SIZES = {"data_shape": (1, 6, 6), "latent_dim": 3, "batch_size": 4}


def from_std(x, x_hat, mu, std):
    return 0.5 * (x - x_hat).square().sum() + (0.5 * (mu**2 + std**2 - 1) - std.log()).sum()


def from_log_std(x, x_hat, mu, log_std):
    return from_std(x, x_hat, mu, log_std.exp())


def from_var(x, x_hat, mu, var):
    return from_std(x, x_hat, mu, var.sqrt())


@pytest.mark.parametrize(("loss", "posterior"), [(from_std, "std"), (from_log_std, "log_std"), (from_var, "var")])
def test_other_ways_of_writing_the_posterior(loss, posterior):
    record = audit_loss(loss, **SIZES, posterior=posterior)
    assert (record.kl_kind, record.kl_minimum_std, record.implied_sigma) == ("exact", 1.0, pytest.approx(1.0))
    assert record.codes("error") == []


def test_a_standard_deviation_given_for_a_log_variance_is_named():
    record = audit_loss(lambda x, v, mu, lv: from_log_std(x, v, mu, 0.5 * lv), **SIZES, posterior="std")
    assert "kl-logvar-confusion" in record.codes("error")


class PyTorchVAEStyle(nn.Module):
    """A module whose loss takes everything as `*args`."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(36, 6), nn.Linear(3, 36)

    def forward(self, x):
        mu, log_var = self.encoder(x.flatten(1)).chunk(2, 1)
        return [self.decoder(mu).reshape_as(x), x, mu, log_var]

    def loss_function(self, *args, **kwargs):
        recons, x, mu, log_var = args
        kld = torch.mean(-0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=1), dim=0)
        return {"loss": nnf.mse_loss(recons, x) + kwargs.get("M_N", 0.00025) * kld, "KLD": -kld}


class NamedStyle(PyTorchVAEStyle):
    """A module whose loss names its parameters, in another order."""

    def loss_function(self, mu, log_var, recon_x, x, beta=2.0):
        return 0.5 * (recon_x - x).square().sum() - 0.5 * beta * (1 + log_var - mu**2 - log_var.exp()).sum()


@pytest.mark.parametrize(("module", "rho"), [(PyTorchVAEStyle, 0.00025 * 36), (NamedStyle, 4.0)])
def test_a_whole_module_with_an_example_batch(module, rho):
    loss, sizes = module_loss(module(), torch.rand(4, 1, 6, 6))
    assert sizes == SIZES
    assert audit_loss(loss, **sizes).rho == pytest.approx(rho)


class NeedyStyle(PyTorchVAEStyle):
    """A module whose loss also takes the code and a weight."""

    def loss_function(self, recon_x, x, mu, log_var, z, weight):
        assert z.shape == mu.shape
        return (recon_x - x).square().sum() - 0.5 * weight * (1 + log_var - mu**2 - log_var.exp()).sum()


class KeywordStyle(PyTorchVAEStyle):
    """A module whose loss reads a weight out of its keywords."""

    def loss_function(self, *args, **kwargs):
        recons, x, mu, log_var = args
        return (recons - x).square().sum() - 0.5 * kwargs["M_N"] * (1 + log_var - mu**2 - log_var.exp()).sum()


@pytest.mark.parametrize(("module", "option"), [(NeedyStyle, "weight"), (KeywordStyle, "M_N")])
def test_what_else_a_method_needs_is_passed(module, option):
    loss, sizes = module_loss(module(), torch.rand(4, 1, 6, 6), **{option: 3.0})
    assert audit_loss(loss, **sizes).rho == pytest.approx(3.0)
    if module is NeedyStyle:
        with pytest.raises(ArgumentError, match=r"also needs weight"):
            module_loss(module(), torch.rand(4, 1, 6, 6))


def test_modules_without_a_loss_or_a_posterior_are_named():
    with pytest.raises(ArgumentError, match="must have a method loss_function"):
        module_loss(nn.Linear(2, 2), torch.rand(4, 2))

    class Odd(PyTorchVAEStyle):
        def loss_function(self, a, b):
            return a + b

    with pytest.raises(ArgumentError, match="must name x, x_hat, mu, logvar"):
        module_loss(Odd(), torch.rand(4, 1, 6, 6))


def minimised(model):
    """The loss that training minimises."""
    return vae_loss(model.likelihood, model.prior, model.objective)


@pytest.mark.parametrize("shared", ["all", "channel", "element"])
@pytest.mark.parametrize("sigma", ["optimal", "learned", 0.1])
def test_what_we_preach_gaussian(sigma, shared):
    model = cb.build("sigma-vae", data_shape=(3, 6, 6), latent_dim=3, sigma=sigma, sigma_shared=shared)
    model.likelihood.set_step(1 / 256)
    record = audit_loss(minimised(model), data_shape=(3, 6, 6), latent_dim=3, batch_size=8)
    assert record.codes("error") == record.codes("warning") == []
    assert (record.kl_kind, record.batch_reduction, record.latent_reduction) == ("exact", "mean", "sum")
    if sigma == "optimal":
        assert record.reconstruction == "log_mse"
        assert record.implied_beta == pytest.approx(1.0, rel=1e-4)
    else:
        assert record.convention == "nll"
        assert record.nll_sigma == pytest.approx(sigma if sigma == 0.1 else 1.0)
        assert record.convention_value == pytest.approx(1.0)


@pytest.mark.parametrize("name", PRESETS)
def test_what_we_preach_presets(name):
    model = cb.build(name, data_shape=(1, 6, 6), latent_dim=3)
    record = audit_loss(minimised(model), **SIZES)
    assert record.codes("error") == (["kl-missing"] if name == "autoencoder" else [])
    expected = {"vae": 1.0, "beta-vae": 4.0, "sigma-vae": 1.0}
    if name != "autoencoder":
        beta = record.implied_beta or record.rho / 2.0
        assert beta == pytest.approx(expected[name], rel=1e-4)


def test_what_we_preach_bernoulli():
    model = cb.build("vae", data_shape=(1, 6, 6), latent_dim=3, likelihood="bernoulli")
    record = audit_loss(minimised(model), **SIZES, x_hat="logits")
    assert (record.reconstruction, record.implied_beta, record.convention) == ("bernoulli", pytest.approx(1.0), "bce")
    assert record.codes("error") == record.codes("warning") == []


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda *_: 1 / 0, "ZeroDivisionError"),
        (lambda x, *_: x, r"one number; got a tensor of shape \(4, 1, 6, 6\)"),
        (lambda *_: "low", "got str"),
        (lambda _: 0.0, "For another signature wrap it"),
    ],
)
def test_losses_that_cannot_be_called_are_reported(loss, message):
    with pytest.raises(ProbeError, match=message):
        audit_loss(loss, **SIZES)


def test_exceptions_on_some_inputs_do_not_stop_an_audit():
    def picky(x, x_hat, mu, logvar):
        assert x.shape == (4, 1, 6, 6), "this batch only"
        assert float(mu.abs().max()) < 50, "no such means"
        return from_log_std(x, x_hat, mu, 0.5 * logvar)

    record = audit_loss(picky, **SIZES)
    assert record.reconstruction == "gaussian"
    assert record.kl_weight == pytest.approx(1.0)
    assert record.could_not_vary
    assert "raises" in record.codes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_shape": ()}, "must be positive"),
        ({"latent_dim": 0}, "must be positive"),
        ({"x_hat": "pixels"}, "one of data, probs"),
        ({"posterior": "sigma"}, "one of logvar"),
        ({"data_range": (1.0, 0.0)}, "lo < hi"),
    ],
)
def test_bad_arguments_say_what_to_do(change, message):
    with pytest.raises(ArgumentError, match=message):
        audit_loss(from_std, **{**SIZES, **change})


def test_the_global_generators_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    audit_loss(lambda x, v, mu, lv: from_log_std(x, v, mu, 0.5 * lv) + 0 * torch.randn(()), **SIZES)
    assert torch.equal(torch.rand(1), expected)


def test_a_record_is_plain_json():
    record = audit_loss(from_log_std, **SIZES, posterior="log_std").to_dict()
    assert json.loads(json.dumps(record, allow_nan=False))["findings"][0]["code"]


def test_one_latent_or_one_dimension_can_be_varied():
    for sizes in ({"latent_dim": 1}, {"data_shape": (1,)}):
        record = audit_loss(from_log_std, **{**SIZES, **sizes}, posterior="log_std")
        assert record.could_not_vary == ()
        assert record.codes("error") == []


def test_numbers_without_a_meaning_are_left_out():
    record = audit_loss(lambda x, v, mu, lv: from_log_std(x, v, mu, -0.5 * lv), **SIZES)
    assert record.kl_kind == "not_a_kl"
    assert (record.convention, record.equivalents) == (None, {})
    of_data = audit_loss(
        lambda x, v, mu, lv: 0.5 * (x - v).square().sum() / x.var() + from_log_std(x, x, mu, 0.5 * lv), **SIZES
    )
    assert (of_data.rho, of_data.convention) == (None, None)


def test_a_flattened_output_is_not_the_posterior():
    class Flat(PyTorchVAEStyle):
        def forward(self, x):
            mu, log_var = self.encoder(x.flatten(1)).chunk(2, 1)
            return self.decoder(mu), mu, log_var

    assert module_loss(Flat(), torch.rand(4, 1, 6, 6))[1]["latent_dim"] == 3


@pytest.mark.parametrize("parts", [{"recon_loss": 0, "kl_loss": 1, "total": 2}, {"reconstruction": 0, "total_loss": 2}])
def test_the_total_of_a_dict_is_taken(parts):
    def loss(x, x_hat, mu, log_std):
        whole = from_log_std(x, x_hat, mu, log_std)
        return {name: whole if number == 2 else (x - x_hat).square().sum() for name, number in parts.items()}

    assert audit_loss(loss, **SIZES, posterior="log_std").kl_weight == pytest.approx(1.0)


def test_the_alphabet_is_not_counted_as_data():
    def loss(x, x_hat, mu, logvar):
        ce = -(x * torch.log_softmax(x_hat, -1)).sum(-1).mean()
        return ce + 0.05 * (-0.5 * (1 + logvar - mu**2 - logvar.exp())).sum(1).mean()

    record = audit_loss(loss, data_shape=(36, 30), latent_dim=8, batch_size=4, x_hat="logits")
    assert record.implied_beta == pytest.approx(1.8)
    assert record.equivalents["ce"] == pytest.approx(1.8)


def test_a_clamp_far_out_is_seen():
    record = audit_loss(lambda x, v, mu, lv: from_log_std(x, v, mu, 0.5 * lv.clamp(min=-4.0)), **SIZES)
    assert "kl-std-clamped" in record.codes("warning")


def test_named_parameters_may_stand_in_another_order():
    def loss_function(recon_x, x, mu, logvar):
        return nnf.binary_cross_entropy(recon_x, x, reduction="sum") - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()

    record = audit_loss(loss_function, **SIZES, x_hat="probs")
    assert (record.reconstruction, record.convention, record.implied_beta) == ("bernoulli", "bce", pytest.approx(1.0))


@pytest.mark.parametrize(
    ("reduce_sse", "reduce_kl", "name", "value", "sse"),
    [
        (lambda s: s.sum(), lambda k: k.mean(), "sse-batch-mean-kl", 1.0, 1 / 4),
        (lambda s: s.mean(), lambda k: k.sum(), "sse", 4.0, 4.0),
    ],
)
def test_equivalents_keep_the_batch_size(reduce_sse, reduce_kl, name, value, sse):
    def loss(x, x_hat, mu, logvar):
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)
        return reduce_sse((x - x_hat).square().flatten(1).sum(1)) + reduce_kl(kl)

    record = audit_loss(loss, **SIZES)
    assert record.rho == pytest.approx(sse)
    assert record.equivalents["sse"] == pytest.approx(sse)
    assert (record.convention, record.convention_value) == (name, pytest.approx(value))


def test_a_record_reads_as_the_command_prints_it():
    text = str(audit_loss(from_log_std, **SIZES, posterior="log_std"))
    assert text.startswith("Nothing to object to. It trains as a Gaussian decoder with sigma 1 would")
    assert "reconstruction  gaussian" in text
    assert "constants-dropped" in text


@pytest.mark.parametrize("each", [False, True])
def test_a_logarithm_without_an_epsilon(each):
    """Infinite at a perfect reconstruction, where the audit begins."""

    def loss(x, x_hat, mu, logvar):
        mse = (x - x_hat).square().flatten(1).mean(1)
        term = 0.5 * x[0].numel() * (mse if each else mse.mean()).log()
        return (term - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)).mean()

    record = audit_loss(loss, **SIZES)
    assert (record.reconstruction, record.implied_beta) == ("log_mse", pytest.approx(1.0))
    assert (record.batch_reduction, record.data_reduction, record.stochastic) == ("mean", "sum", False)
    assert record.codes("warning") == ["sigma-from-example", "not-finite"][not each :]
