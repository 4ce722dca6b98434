"""The loop: what it leaves on disk, how it goes on, how it stops."""

import csv
import json
import math
import os
import signal
import threading

import numpy as np
import pytest
import torch

import calibrae as cb
from calibrae.data import Data, DataOptions, load_data
from calibrae.errors import ArgumentError, CalibraeError, DataError, NonFiniteError, RunError
from calibrae.evaluation import exact_linear_elbo, training_spectrum
from calibrae.runs import RunFolder, load_tree
from calibrae.training import EagerStep, Silent, Trainer, TrainSettings
from calibrae.workflows import seeded_build

DIGITS = load_data("digits")


def build(name="sigma-vae", seed=0, **kwargs):
    arguments = {
        "data_shape": (1, 8, 8),
        "latent_dim": 3,
        "network": "mlp",
        "options": cb.NetworkOptions(hidden=(32,)),
        **kwargs,
    }
    return seeded_build(seed, lambda: cb.build(name, **arguments))


def fit(out, model=None, **kwargs):
    kwargs = {"epochs": 2, "quiet": True, "pictures": False, "precision": "fp32", "compile": "off", **kwargs}
    return cb.fit(model or build(), "digits", out, **kwargs)


@pytest.mark.usefixtures("pictures")
def test_a_run_folder_has_everything(tmp_path):
    run = cb.fit(build(), "digits", tmp_path / "r", epochs=2, quiet=True)
    names = {p.name for p in run.path.iterdir()}
    assert names >= {
        "config.toml", "run.json", "history.csv", "model.safetensors", "model.json", "checkpoints", "tensorboard",
        "curves.png", "reconstructions.png", "samples.png", "traversal.png",
    }  # fmt: skip
    known = json.loads((run.path / "run.json").read_text())
    assert known["finished"] is True
    assert known["data"]["fingerprint"] == DIGITS.source.fingerprint
    assert known["data"]["splits"]["test"].startswith("180 of the 1797")
    assert known["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    rows = list(csv.DictReader((run.path / "history.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert {"train_nll", "train_kl", "validation_elbo", "validation_bits_per_dim", "sigma", "lr", "beta"} <= set(
        rows[0]
    )
    assert not list(run.path.rglob(".*"))


def test_the_loaded_model_is_the_trained_one(tmp_path):
    run = fit(tmp_path / "r")
    model = cb.load(tmp_path / "r")
    assert not model.training
    assert model.likelihood.scale.is_fixed
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(model.reconstruct(x), run.model.reconstruct(x))
    assert cb.evaluate(tmp_path / "r").to_dict() == run.evaluate().to_dict()


def test_the_same_seed_gives_the_same_run(tmp_path):
    a, b, c = fit(tmp_path / "a"), fit(tmp_path / "b"), fit(tmp_path / "c", seed=1)
    drop = {"seconds"}
    rows = [[{k: v for k, v in row.items() if k not in drop} for row in run.history] for run in (a, b, c)]
    assert rows[0] == rows[1] != rows[2]


def test_sigma_is_its_value_over_the_training_set(tmp_path):
    run = fit(tmp_path / "r")
    with torch.no_grad():
        batches = run.data.batches("train", 512, seed=5)
        residuals = [(batch.x - run.model.draw(batch).px.mean[0]).flatten() for batch in batches]
    rms = torch.cat(residuals).square().mean().sqrt().item()
    assert run.model.likelihood.scale.summary() == pytest.approx(rms, rel=0.01)


@pytest.mark.parametrize("stop_after", [1, 5, 11, 15])
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path, monkeypatch, stop_after):
    whole = fit(tmp_path / "whole", ema_decay=0.9)
    original, count = EagerStep.__call__, []

    def interrupted(self, *batch):
        count.append(1)
        if len(count) == stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *batch)

    monkeypatch.setattr(EagerStep, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", ema_decay=0.9)
    monkeypatch.undo()
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    resumed = fit(tmp_path / "cut", build(seed=9), ema_decay=0.9, resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    assert [r["validation_elbo"] for r in resumed.history] == [r["validation_elbo"] for r in whole.history]


def test_a_finished_run_goes_on_for_more_epochs(tmp_path):
    fit(tmp_path / "r", epochs=1)
    assert len(fit(tmp_path / "r", epochs=3, resume=True).history) == 3


def test_a_resumed_run_keeps_its_settings(tmp_path):
    fit(tmp_path / "r", epochs=1)
    with pytest.raises(RunError, match=r"keeps its settings; got seed was 0, now 5"):
        fit(tmp_path / "r", epochs=2, seed=5, resume=True)
    with pytest.raises(RunError, match="keeps its objective"):
        fit(tmp_path / "r", epochs=2, objective=cb.BetaELBO(3.0), resume=True)
    with pytest.raises(RunError, match="keeps its data options"):
        fit(tmp_path / "r", epochs=2, options=DataOptions(split_seed=4), resume=True)


def test_a_resumed_run_keeps_its_data(tmp_path):
    """Rows that were added would move others from the test split into training."""
    table = np.random.default_rng(0).normal(size=(60, 3))
    np.save(tmp_path / "t.npy", table)
    model = cb.build("sigma-vae", data_shape=(3,), latent_dim=1)
    cb.fit(model, tmp_path / "t.npy", tmp_path / "r", epochs=1, quiet=True, pictures=False)
    np.save(tmp_path / "t.npy", np.concatenate([table, table + 1]))
    with pytest.raises(RunError, match="have changed since"):
        cb.fit(model, tmp_path / "t.npy", tmp_path / "r", epochs=2, quiet=True, pictures=False, resume=True)


def test_runs_are_not_overwritten_unless_asked(tmp_path):
    fit(tmp_path / "r", epochs=1)
    with pytest.raises(RunError, match="already holds a run"):
        fit(tmp_path / "r", epochs=1)
    fit(tmp_path / "r", epochs=1, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    (tmp_path / "mine" / "config.toml").write_text("baseURL = 1")
    with pytest.raises(RunError, match="not a run"):
        fit(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    with pytest.raises(RunError, match="does not exist"):
        fit(tmp_path / "nowhere", resume=True)


def test_a_broken_checkpoint_or_config_is_named(tmp_path):
    run = fit(tmp_path / "r", epochs=1)
    for state in (run.path / "checkpoints").glob("step-*"):
        state.write_bytes(b"junk")
    with pytest.raises(RunError, match=r"no whole checkpoint to go on from: .*step-\S+ is not as it was written"):
        fit(tmp_path / "r", resume=True)
    (run.path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(RunError, match=r"model\.safetensors is not as it was written"):
        cb.load(run.path)
    (run.path / "model.safetensors").unlink()
    with pytest.raises(RunError, match="holds no trained model"):
        cb.load(run.path)


def test_overwriting_keeps_files_that_are_not_ours(tmp_path):
    run = fit(tmp_path / "r", epochs=1)
    (run.path / "notes.txt").write_text("mine")
    fit(tmp_path / "r", epochs=1, overwrite=True)
    assert (run.path / "notes.txt").read_text() == "mine"
    assert not list(run.path.glob(".replaced"))


@pytest.mark.parametrize("broken", [{"device": "abacus"}, {"model": "wrong shape"}])
def test_an_old_run_survives_a_new_one_that_does_not_begin(tmp_path, broken):
    run = fit(tmp_path / "r", epochs=1)
    before = (run.path / "model.safetensors").read_bytes()
    model = build(data_shape=(1, 9, 9)) if "model" in broken else build()
    settings = {k: v for k, v in broken.items() if k != "model"}
    with pytest.raises(CalibraeError, match=r"`device` must be one|built for data of shape"):
        fit(tmp_path / "r", model, epochs=1, overwrite=True, **settings)
    assert (run.path / "model.safetensors").read_bytes() == before
    assert cb.evaluate(run.path).n == 180


def test_a_killed_overwrite_does_not_stand_in_the_way_of_the_next(tmp_path):
    fit(tmp_path / "r", epochs=1)
    (tmp_path / "r" / ".replaced" / "checkpoints").mkdir(parents=True)
    (tmp_path / "r" / ".replaced" / "checkpoints" / "step-000000009-best-000000.safetensors").write_bytes(
        b"of a run before"
    )
    run = fit(tmp_path / "r", epochs=2, overwrite=True)
    assert len(run.history) == 2
    assert not (tmp_path / "r" / ".replaced").exists()


def test_an_old_run_comes_back_whatever_stopped_the_new_one(tmp_path):
    fit(tmp_path / "r", epochs=1)
    with pytest.raises(TypeError):
        fit(tmp_path / "r", epochs=1, overwrite=True, request={"x": object()})
    assert cb.evaluate(tmp_path / "r").n == 180
    (tmp_path / "r" / ".replaced").mkdir()
    for name in ("config.toml", "run.json", "model.safetensors", "model.json", "checkpoints"):
        (tmp_path / "r" / name).rename(tmp_path / "r" / ".replaced" / name)
    assert cb.evaluate(tmp_path / "r").n == 180


def test_a_folder_of_the_users_own_is_left(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError):
        cb.fit(
            cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2),
            np.full((40, 1, 4, 4), 0.3),
            tmp_path / "mine",
            quiet=True,
        )
    assert (tmp_path / "mine").is_dir()


def test_a_run_that_does_not_begin_leaves_nothing(tmp_path):
    same = np.full((40, 1, 4, 4), 0.3)
    model = cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2)
    with pytest.raises(DataError, match="all training examples are the same"):
        cb.fit(model, same, tmp_path / "r", quiet=True)
    assert not (tmp_path / "r").exists()


def test_data_options_say_how_data_are_read(tmp_path):
    x = np.random.default_rng(0).uniform(-1, 1, size=(60, 1, 4, 4))
    model = cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2)
    options = cb.DataOptions(data_range=(-1.0, 1.0))
    run = cb.fit(model, x, tmp_path / "r", epochs=1, options=options, quiet=True, pictures=False)
    assert run.data.spec.scale == "[0, 1] from [-1, 1]"


def test_a_model_for_another_shape_is_named(tmp_path):
    model = cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2)
    with pytest.raises(ArgumentError, match=r"built for data of shape \(1, 4, 4\); digits has \(1, 8, 8\)"):
        cb.fit(model, "digits", tmp_path / "r")


def test_a_run_may_be_called_like_its_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit("digits", epochs=1)
    assert cb.evaluate("digits").n == 180
    assert fit("again", epochs=1).data.source.name == "digits"


def test_validation_that_is_not_finite_is_named(tmp_path):
    table = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    parts = {"train": table, "validation": np.full((4, 3), 1e30, dtype=np.float32), "test": table[:5]}
    model = cb.build("vae", data_shape=(3,), latent_dim=1)
    with pytest.raises(NonFiniteError, match=r"validation split is not finite \(largest \|x\|"):
        cb.fit(model, parts, tmp_path / "r", epochs=2, quiet=True, pictures=False)


def test_data_without_variation_are_refused(tmp_path):
    model = cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=1)
    with pytest.raises(DataError, match="all training examples are the same"):
        cb.fit(model, np.full((30, 1, 4, 4), 0.123), tmp_path / "r", epochs=1, quiet=True)


def test_accumulation_that_meets_a_nan_names_the_batch(tmp_path):
    model = build()
    model.decoder = Exploding(model.decoder, 3)
    with pytest.raises(NonFiniteError, match=r"epoch 1, batch 1 .*reconstruction"):
        fit(tmp_path / "r", model, micro_batches=4)


class Exploding(torch.nn.Module):
    """A decoder that gives NaN from some call on."""

    def __init__(self, inner, calls):
        super().__init__()
        self.inner, self.left = inner, calls

    def forward(self, z):
        self.left -= self.training
        out = self.inner(z)
        return out * math.nan if self.left < 0 else out


def test_a_non_finite_loss_names_batch_term_and_cause_and_keeps_the_last_good_state(tmp_path):
    model = build()
    model.decoder = Exploding(model.decoder, 14)
    with pytest.raises(
        NonFiniteError,
        match=r"epoch 2, batch 4 \(step 15\): the reconstruction term is not finite .*x_hat\| not finite.*step-0000000",
    ):
        fit(tmp_path / "r", model, epochs=3, batch_size=128, save_every=11)
    states = sorted((tmp_path / "r" / "checkpoints").glob("step-*"))
    stored = load_tree(states[-1])
    assert stored["state"]["step"] == 11
    assert all(torch.isfinite(v).all() for v in stored["model"].values() if v.is_floating_point())


def test_a_huge_learning_rate_stops_with_words_not_with_nonsense(tmp_path):
    with pytest.raises(NonFiniteError, match="a lower --lr"):
        fit(tmp_path / "r", build(sigma=1e-3), lr=1e30, grad_clip_norm=0.0, epochs=3)
    run = fit(tmp_path / "r", build(sigma=1e-3), lr=1e-3, epochs=2, resume=True)
    assert len(run.history) == 2


def test_patience_stops_and_the_best_epoch_is_kept(tmp_path):
    run = fit(tmp_path / "r", epochs=60, lr=0.1, patience=2, weight_decay=0.0)
    known = json.loads((run.path / "run.json").read_text())
    losses = [row["validation_loss"] for row in run.history]
    assert known["selected_epoch"] == 1 + int(np.argmin(losses))
    assert known["selected_by"] == "validation_loss"
    assert losses == pytest.approx([-row["validation_elbo"] for row in run.history], rel=1e-6)  # beta is 1
    if len(run.history) < 60:
        assert len(run.history) - known["selected_epoch"] == 2


def test_the_test_split_is_never_touched_by_training(tmp_path, monkeypatch):
    asked = []
    original = Data.view
    monkeypatch.setattr(Data, "view", lambda self, split: asked.append(split) or original(self, split))
    data = load_data("digits")
    model = build()
    folder = RunFolder.create(tmp_path / "r")
    Trainer(model, data, folder, TrainSettings(epochs=1, precision="fp32"), model.objective, Silent()).run(resume=False)
    assert set(asked) == {"train", "validation"}


def test_batches_larger_than_the_data_are_cut_and_said(tmp_path, capsys):
    stored = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), dtype=np.uint8)
    model = cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2)
    cb.fit(model, stored, tmp_path / "r", epochs=1, pictures=False)
    assert "batch size 64 exceeds the 16 training examples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("autoencoder", {}),
        ("vae", {}),
        ("beta-vae", {}),
        ("sigma-vae", {"sigma": "learned", "sigma_shared": "channel"}),
        ("sigma-vae", {"sigma_shared": "element"}),
        ("sigma-vae", {"sigma": 0.2}),
    ],
)
def test_every_kind_of_model_trains_draws_and_evaluates(tmp_path, name, kwargs):
    run = fit(tmp_path / "r", build(name, **kwargs), pictures=True, epochs=3)
    record = run.evaluate().to_dict()
    assert (record["elbo_nats"] is None) == (name == "autoencoder")
    assert run.history[-1]["train_rmse"] < run.history[0]["train_rmse"] * 1.05
    assert (run.path / "samples.png").exists() == (name != "autoencoder")


def test_bernoulli_needs_binary_data(tmp_path):
    with pytest.raises(ArgumentError, match="--binarise"):
        fit(tmp_path / "r", build(likelihood="bernoulli"))
    run = fit(tmp_path / "r", build(likelihood="bernoulli"), options=DataOptions(binarise=True), epochs=3)
    record = run.evaluate().to_dict()
    assert record["sigma"] is None
    assert record["ppca_log_likelihood_nats"] is None
    assert record["bits_per_dim"] == pytest.approx(-record["elbo_nats"] / (64 * math.log(2)))


def test_bits_are_modelled_as_bits_without_noise(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (200, 1, 4, 4))
    model = cb.build("vae", data_shape=(1, 4, 4), latent_dim=2, likelihood="bernoulli")
    for i, stored in enumerate((bits, bits.astype(np.float32))):
        run = cb.fit(model, stored, tmp_path / str(i), epochs=1, quiet=True, pictures=False)
        x = next(iter(run.data.batches("train", 50))).x
        assert torch.equal(x, torch.from_numpy(bits[run.data.view("train").index[:50]]).float())
        assert 0.9 < run.evaluate().bits_per_dim < 1.3
    with pytest.raises(ArgumentError, match="no density"):
        fit(tmp_path / "r", options=DataOptions(binarise=True))
    with pytest.raises(ArgumentError, match="--horizontal-flip mirrors pictures"):
        cb.fit(
            cb.build(data_shape=(3,)),
            np.random.default_rng(0).normal(size=(40, 3)),
            tmp_path / "f",
            horizontal_flip=True,
            quiet=True,
        )


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("kind", ["signals", "table", "dataset"])
def test_other_kinds_of_data_train(tmp_path, kind):
    rng = np.random.default_rng(0)
    t = np.linspace(0, 6, 40)
    signals = 0.5 + 0.4 * np.sin(t + rng.uniform(0, 6, (120, 2, 1)))
    table = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(200, 5))
    data = {"signals": signals, "table": table, "dataset": torch.utils.data.TensorDataset(torch.from_numpy(table))}[
        kind
    ]
    model = cb.build("sigma-vae", data_shape=(2, 40) if kind == "signals" else (5,), latent_dim=2)
    run = cb.fit(model, data, tmp_path / "r", epochs=3, batch_size=32, quiet=True)
    record = run.evaluate().to_dict()
    assert record["bits_per_dim"] is None
    assert record["elbo_nats_original_units"] == pytest.approx(record["elbo_nats"] - record["log_scale"])
    assert (run.path / "reconstructions.png").stat().st_size > 1000


def test_unknown_settings_are_refused(tmp_path):
    with pytest.raises(TypeError, match="learning_rate"):
        fit(tmp_path / "r", learning_rate=3)
    assert not (tmp_path / "r").exists()


def test_own_modules_need_the_model_again(tmp_path):
    def own():
        encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6))
        decoder = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Unflatten(1, (1, 8, 8)))
        likelihood, prior = cb.GaussianLikelihood("optimal", "element"), cb.StandardNormalPrior(3)
        return cb.VAE(encoder, decoder, likelihood, prior, posterior=cb.GaussianPosterior("log_var"))

    run = fit(tmp_path / "r", own())
    with pytest.raises(RunError, match="own modules"):
        cb.load(run.path)
    model = cb.load(run.path, model=own())
    assert model.likelihood.scale.is_fixed
    with pytest.raises(RunError, match="do not fit"):
        cb.load(run.path, model=build())


def test_training_works_outside_the_main_thread(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(tmp_path / "r", epochs=1)))
    thread.start()
    thread.join(60)
    assert results


def test_bf16_moves_the_elbo_little(tmp_path):
    full, half = fit(tmp_path / "a", epochs=3), fit(tmp_path / "b", epochs=3, precision="bf16")
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    assert half.history[-1]["validation_elbo"] == pytest.approx(full.history[-1]["validation_elbo"], abs=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("latent_dim", "seed"), [(2, 0), (10, 1)])
def test_a_linear_vae_reaches_ppca_on_the_digits(tmp_path, latent_dim, seed):
    model = seeded_build(
        seed, lambda: cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=latent_dim, network="linear")
    )
    run = fit(tmp_path / "r", model, epochs=80, lr=1e-2, weight_decay=0.0, seed=seed)
    ppca = training_spectrum(run.data, latent_dim).ppca(latent_dim)
    x = torch.cat([batch.x for batch in run.data.batches("test", 512)])
    floor = cb.functional.ppca_log_likelihood(ppca, x.flatten(1).double()).mean().item()
    assert exact_linear_elbo(run.model, x).double().mean().item() == pytest.approx(floor, abs=0.5)
    assert run.model.likelihood.scale.summary() == pytest.approx(ppca.sigma, rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("start", [1e-2, 1e2])
def test_a_bad_first_sigma_does_not_collapse_training(tmp_path, start):
    optimal = fit(tmp_path / "optimal", build(), epochs=30)
    learned = fit(tmp_path / "learned", build(sigma="learned", initial_sigma=start), epochs=30)
    ours, theirs = (run.model.likelihood.scale.summary() for run in (learned, optimal))
    assert ours == pytest.approx(theirs, rel=0.01)
