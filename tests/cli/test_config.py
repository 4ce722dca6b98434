"""What is asked for: options that are refused before data are read, `--config`, resuming, and the names in Python."""

import inspect
import json
import tomllib
from dataclasses import fields

import numpy as np
import pytest
import tomli_w
import torch
from command import call

import calibrae as cb
from calibrae.errors import ArgumentError
from calibrae.training import TrainSettings

TINY = ("--hidden", "8", "--latent-dim", "2")
PLAIN = ("--compile", "off", "--precision", "fp32", "--threads", "1")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "t.npy"
    np.save(file, X)
    return file


def history(run):
    """Terms per epoch, but for the seconds."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in cb.open_run(run).history]


def train(capsys, *arguments):
    code, out, err = call(capsys, "train", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def refused(capsys, *arguments):
    """The one line with which a command is refused."""
    code, out, err = call(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("calibrae: ")
    return err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--prior", "nonsense", "`prior` must be one of "),
        ("--prior", "mixture:parts=3", "has no argument 'parts'; it takes "),
        ("--prior", "mixture:3", "arguments are written NAME:KEY=VALUE"),
        ("--posterior", "nonsense", "`posterior` must be one of "),
        ("--objective", "nonsense", "`objective` must be one of "),
        ("--objective", "iwae:samples=0", "samples"),
        ("--likelihood", "nonsense", "`likelihood` must be one of "),
        ("--model", "nonsense", "`model` must be one of "),
        ("--network", "nonsense", "`network` must be one of "),
        ("--activation", "nonsense", "activation"),
        ("--sigma", "nonsense", "--sigma must be optimal, learned or a positive number"),
        ("--sigma-shared", "nonsense", "`sigma_shared` must be one of "),
        ("--kl-warmup", "2", "kl_warmup"),
        ("--beta", "-1", "beta"),
        ("--epochs", "0", "`epochs` must be at least 1"),
        ("--epochs", "two", "valid integer"),
        ("--lr", "0", "`lr` must be a positive number"),
        ("--lr-warmup", "1", "`lr_warmup` must be in [0, 1)"),
        ("--micro-batches", "65", "`micro_batches` must be at most batch_size = 64"),
        ("--precision", "fp8", "`precision` must be auto, fp32 or bf16"),
        ("--compile", "maybe", "`compile` must be auto, on or off"),
        ("--acceleration", "maybe", "`acceleration` must be on or off"),
        ("--threads", "0", "`threads` must be a number from 1, or auto"),
        ("--threads", "some", "--threads must be whole numbers"),
        ("--resize", "stretch", "`resize` must be crop or fit"),
        ("--levels", "1", "`levels` must be at least 2"),
        ("--data-range", "1,0", "`data_range` must be lo < hi"),
        ("--nonsense", "1", "No such option"),
        ("--config", "nowhere.toml", "nowhere.toml cannot be read"),
    ],
)
def test_wrong_values_are_refused_before_data_are_read(capsys, tmp_path, monkeypatch, option, value, message):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "train", "no-such-data", "--out", tmp_path / "r", option, value)
    assert message in said
    assert "no-such-data" not in said
    assert not (tmp_path / "r").exists()


def test_beta_and_its_convention_are_refused_before_data_are_read(capsys, tmp_path):
    said = refused(capsys, "train", "no-such-data", "--out", tmp_path / "r", "--beta-convention", "mse")
    assert "got no --beta" in said
    said = refused(capsys, "train", "no-such-data", "--out", tmp_path / "r", "--model", "autoencoder", "--beta", 2)
    assert "a plain autoencoder has none" in said


def test_registered_parts_are_named_with_their_arguments(capsys, tmp_path, table):
    parts = ("--prior", "mixture:components=3", "--likelihood", "laplace", "--objective", "iwae:samples=2")
    train(capsys, table, "--out", tmp_path / "r", "--epochs", 1, *TINY, *PLAIN, *parts)
    stored = tomllib.loads((tmp_path / "r" / "config.toml").read_text())
    assert (stored["model"]["prior"]["name"], stored["model"]["prior"]["components"]) == ("mixture", 3)
    assert stored["model"]["likelihood"]["name"] == "laplace"
    assert (stored["objective"]["name"], stored["objective"]["samples"]) == ("iwae", 2)
    model = cb.load(tmp_path / "r")
    assert (type(model.prior), type(model.likelihood)) == (cb.MixturePrior, cb.LaplaceLikelihood)


# --config


@pytest.fixture(scope="module")
def first(tmp_path_factory, table):
    """A run of the command line with options of every kind."""
    from calibrae.cli._main import main

    out = tmp_path_factory.mktemp("first") / "run"
    options = [
        "--model", "beta-vae", "--beta", "0.5", "--kl-warmup", "0.25", "--sigma", "learned", "--sigma-shared", "element",
        "--prior", "mixture:components=3", "--hidden", "8,4", "--activation", "tanh", "--latent-dim", "2", "--epochs", "2",
        "--batch-size", "16", "--micro-batches", "2", "--lr", "0.01", "--ema-decay", "0.5", "--seed", "3", "--split-seed", "1",
        "--data-range=-9,9", *PLAIN,
    ]  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(table), "--out", str(out), *options])
    assert stopped.value.code == 0
    return out


def test_the_config_of_a_run_trains_the_same_model(capsys, tmp_path, table, first):
    train(capsys, table, "--out", tmp_path / "again", "--config", first / "config.toml")
    assert history(tmp_path / "again") == history(first)
    configs = [tomllib.loads((run / "config.toml").read_text()) for run in (first, tmp_path / "again")]
    assert configs[0] == configs[1]
    assert configs[0]["request"]["kl_warmup"] == 0.25
    weights = [cb.load(run).state_dict() for run in (first, tmp_path / "again")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_options_beside_a_config_win(capsys, tmp_path, table, first):
    said = ("--beta", 2, "--lr", "0.002", "--hidden", "4", "--sigma", "0.5", "--seed", 4)
    train(capsys, table, "--out", tmp_path / "r", "--config", first / "config.toml", *said)
    before, now = (tomllib.loads((run / "config.toml").read_text()) for run in (first, tmp_path / "r"))
    assert (now["objective"]["beta"], now["training"]["lr"], now["training"]["seed"]) == (2.0, 0.002, 4)
    assert (now["model"]["options"]["hidden"], now["model"]["likelihood"]["sigma"]) == ([4], 0.5)
    kept = ("batch_size", "micro_batches", "ema_decay", "epochs")
    assert [now["training"][name] for name in kept] == [before["training"][name] for name in kept]
    assert now["model"]["prior"] == before["model"]["prior"]
    assert now["data"]["data_range"] == [-9.0, 9.0]
    assert history(tmp_path / "r") != history(first)


def python_run(out, table, *, model="sigma-vae", fitted=None, **parts):
    options = cb.NetworkOptions(hidden=(8,), activation="relu")
    net = cb.build(model, data_shape=(3,), latent_dim=2, network="mlp", options=options, seed=5, **parts)
    reading = cb.DataOptions(validation_fraction=0.3, split_seed=2)
    usual = {"epochs": 2, "seed": 5, "batch_size": 16, "compile": "off", "precision": "fp32", "threads": 1}
    return cb.fit(
        net,
        str(table),
        out,
        options=reading,
        eval_batch_size=7,
        quiet=True,
        pictures=False,
        **{**usual, **(fitted or {})},
    )


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"model": "vae", "sigma": 0.3, "prior": "mixture:components=2"},
        {"model": "beta-vae", "likelihood": "laplace"},
        {"model": "beta-vae", "beta": 0.25, "kl_warmup": 0.5},
        {"model": "autoencoder"},
        {"objective": "iwae:samples=2", "sigma": "learned"},
        {"likelihood": cb.GaussianLikelihood("learned", floor=0.01), "fitted": {"beta": 3.0}},
    ],
)
def test_the_config_of_a_python_run_of_a_preset_trains_the_same_model(capsys, tmp_path, table, parts):
    run = python_run(tmp_path / "python", table, **parts)
    train(capsys, table, "--out", tmp_path / "again", "--config", run.path / "config.toml")
    assert history(tmp_path / "again") == history(run.path)
    one, other = (tomllib.loads((path / "config.toml").read_text()) for path in (run.path, tmp_path / "again"))
    assert all(one[name] == other[name] for name in ("data", "objective", "training"))
    heads = [config["model"].pop("likelihood") for config in (one, other)]
    assert heads[0].items() <= heads[1].items()  # defaults may be spelt out
    for config in (one, other):
        del config["model"]["objective"]  # what was descended is compared above; `fit` may have been given another
    assert one["model"] == other["model"]


@pytest.mark.parametrize(
    ("option", "place", "value"),
    [
        (("--sigma", "0.25"), ("model", "likelihood", "sigma"), 0.25),
        (("--sigma-shared", "element"), ("model", "likelihood", "shared"), "element"),
        (("--likelihood", "laplace"), ("model", "likelihood", "name"), "laplace"),
        (("--beta", "7"), ("objective", "beta"), 7.0),
        (("--kl-warmup", "0.5"), ("objective", "kl_warmup"), 0.5),
        (("--objective", "iwae"), ("objective", "name"), "iwae"),
        (("--prior", "mixture:components=2"), ("model", "prior", "name"), "mixture"),
        (("--model", "autoencoder"), ("model", "posterior", "name"), "point"),
        (("--epochs", "1"), ("training", "epochs"), 1),
        (("--beta", "4", "--beta-convention", "sse"), ("objective", "beta"), 2.0),
    ],
)
def test_options_beside_the_config_of_a_python_run_win(capsys, tmp_path, table, option, place, value):
    is_translated = "--beta-convention" in option
    parts = {"model": "vae"} if is_translated else {}
    fitted = {} if "--model" in option else {"beta": 0.5, "kl_warmup": 0.25}
    run = python_run(tmp_path / "python", table, fitted=fitted, **parts)
    train(capsys, table, "--out", tmp_path / "r", "--config", run.path / "config.toml", *option)
    stored = tomllib.loads((tmp_path / "r" / "config.toml").read_text())
    for key in place:
        stored = stored[key]
    assert stored == value


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"epochs": 1, "sigmma": 0.1}, "there is no option sigmma"),
        ({"epochs": 1, "flip": True, "clip": 0.1}, "there is no option clip, flip"),
        ({"epochs": 1, "out": "elsewhere"}, "there is no option out"),
        ({"epochs": 1, "context": 3}, "there is no option context"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"prior": "nonsense"}, "`prior` must be one of"),
    ],
)
def test_an_unknown_option_in_a_config_is_refused(capsys, tmp_path, request_, message):
    file = tmp_path / "c.toml"
    file.write_text(tomli_w.dumps({"request": request_}))
    assert message in refused(capsys, "train", "no-such-data", "--out", tmp_path / "r", "--config", file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nepochs = 3\n", "a configuration needs [request]"),
        ("[request\n", "cannot be read"),
        ("", "needs [request]"),
    ],
)
def test_a_file_that_is_no_config_is_refused(capsys, tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    assert message in refused(capsys, "train", "no-such-data", "--out", tmp_path / "r", "--config", tmp_path / "c.toml")


def test_the_config_of_own_modules_is_refused(capsys, tmp_path, table):
    encoder, decoder = torch.nn.Linear(3, 4), torch.nn.Linear(2, 3)
    posterior = cb.GaussianPosterior("log_std")
    model = cb.VAE(encoder, decoder, cb.GaussianLikelihood(), cb.StandardNormalPrior(2), posterior=posterior)
    run = cb.fit(model, str(table), tmp_path / "own", epochs=1, quiet=True, pictures=False)
    said = refused(capsys, "train", table, "--out", tmp_path / "r", "--config", run.path / "config.toml")
    assert "the run of registered parts" in said or "a run of registered parts" in said


# Resuming


def test_a_run_that_is_resumed_ends_like_one_that_was_not(capsys, tmp_path, table):
    same = ("--lr", "0.01", "--ema-decay", "0.5", *TINY, *PLAIN)
    train(capsys, table, "--out", tmp_path / "whole", "--epochs", 2, *same)
    run = tmp_path / "halves"
    cb.fit(
        _like(same), str(table), run, epochs=2, lr=0.01, ema_decay=0.5, stop_after=1, compile="off", precision="fp32", threads=1,
        quiet=True, pictures=False,
    )  # fmt: skip
    assert len(history(run)) == 1
    train(capsys, table, "--out", run, "--resume")
    assert history(run) == history(tmp_path / "whole")
    assert json.loads((run / "run.json").read_text())["finished"]


def _like(_):
    """The model that the command line builds for these words."""
    torch.manual_seed(0)
    return cb.build("sigma-vae", data_shape=(3,), latent_dim=2, network="mlp", options=cb.NetworkOptions(hidden=(8,)))


def test_a_resumed_run_keeps_its_settings_wherever_it_began(capsys, tmp_path, table, first):
    run = python_run(tmp_path / "python", table)
    same = ("--latent-dim", 2, "--hidden", "8", "--batch-size", 16)
    found = train(capsys, table, "--out", run.path, "--resume", "--epochs", 3, *same)
    assert found["epoch"] == 3
    said = refused(capsys, "train", table, "--out", run.path, "--resume", "--latent-dim", 3)
    assert "got --latent-dim 3 (was 2)" in said
    said = refused(capsys, "train", table, "--out", first, "--resume", "--prior", "mixture:components=4")
    assert "got --prior mixture:components=4 (was mixture:components=3)" in said


# In Python


def test_evaluate_prints_what_the_command_line_prints(capsys, first):
    for words, how in (((), {}), (("--importance-samples", 3, "--seed", 2), {"importance_samples": 3, "seed": 2})):
        code, out, _ = call(capsys, "evaluate", first, *words)
        assert code == 0
        assert out == f"{cb.evaluate(first, **how)}\n"
        assert out == f"{cb.open_run(first).evaluate(**how)}\n"


def test_a_run_without_a_place_gets_a_new_one():
    model = _like(())
    runs = [cb.fit(model, X, epochs=1, quiet=True, pictures=False) for _ in range(2)]
    assert runs[0].path != runs[1].path
    assert all((run.path / "model.safetensors").exists() for run in runs)
    assert runs[0].path.parent.parent == runs[1].path.parent.parent  # the system's place for temporary files
    with pytest.raises(ArgumentError, match="to resume a run, name its folder"):
        cb.fit(model, X, epochs=1, resume=True, quiet=True, pictures=False)


def test_fit_names_every_setting():
    parameters = inspect.signature(cb.fit).parameters
    settings = {field.name for field in fields(TrainSettings)}
    assert settings <= set(parameters)
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in settings)
    assert all(parameters[name].default is None for name in settings)
    kinds = {parameter.kind for parameter in parameters.values()}
    assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    documented = inspect.getdoc(cb.fit)  # Python 3.13 takes the indentation of docstrings away itself
    assert [name for name in parameters if f"    {name}: " not in documented] == []
    with pytest.raises(TypeError, match="unexpected keyword argument 'clip'"):
        cb.fit(_like(()), X, clip=0.1)


def test_train_has_an_option_for_every_setting():
    from calibrae.cli._train import KNOWN, train

    options = set(inspect.signature(train).parameters)
    settings = {field.name for field in (*fields(TrainSettings), *fields(cb.DataOptions))}
    assert settings - options == KNOWN
    assert KNOWN.isdisjoint(options)


def test_settings_reach_the_trainer(tmp_path):
    chosen = {
        "epochs": 1, "batch_size": 8, "micro_batches": 2, "lr": 0.02, "weight_decay": 0.3, "lr_warmup": 0.1, "grad_clip_norm": 0.5,
        "ema_decay": 0.1, "patience": 4, "seed": 9, "precision": "fp32", "compile": "off", "acceleration": "off", "device": "cpu",
        "eval_batch_size": 6, "threads": 1, "retain_memory": False, "horizontal_flip": False,
        "save_every": 30, "keep": 3, "max_minutes": 100.0, "fsdp": False,
    }  # fmt: skip
    assert set(chosen) == {field.name for field in fields(TrainSettings)}
    run = cb.fit(_like(()), X, tmp_path / "r", quiet=True, pictures=False, **chosen)
    assert tomllib.loads((run.path / "config.toml").read_text())["training"] == chosen


def test_data_that_were_loaded_before_keep_their_options(tmp_path):
    data = cb.load_data("digits", cb.DataOptions(split_seed=3, test_fraction=0.2))
    model = cb.build("vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
    run = cb.fit(model, data, tmp_path / "run", epochs=1, quiet=True, pictures=False)
    again = cb.evaluate(tmp_path / "run")
    assert again.n == len(data.view("test"))
    assert again.elbo_nats == pytest.approx(run.evaluate().elbo_nats, rel=1e-6)


@pytest.mark.parametrize(
    ("variable", "option", "drawn"),
    [("0", (), False), ("No", (), False), ("f", (), False), ("1", (), True), ("", (), True), ("1", ("--no-pictures",), False), ("0", ("--pictures",), True)],
)  # fmt: skip
def test_pictures_are_drawn_unless_the_option_or_the_machine_says_otherwise(
    table, tmp_path, capsys, monkeypatch, variable, option, drawn
):
    monkeypatch.setenv("CALIBRAE_PICTURES", variable)
    code, said, err = call(capsys, "train", table, "--out", tmp_path / "r", *TINY, *PLAIN, "--epochs", 1, *option)
    assert code == 0, err
    assert (tmp_path / "r" / "curves.png").exists() == drawn
    assert ("(curves.png" in said) == drawn
    assert "pictures" not in (tmp_path / "r" / "config.toml").read_text()


@pytest.mark.parametrize(
    ("asked", "variable", "drawn"), [(None, "0", False), (None, "1", True), (True, "0", True), (False, "1", False)]
)
def test_pictures_in_python(table, tmp_path, monkeypatch, asked, variable, drawn):
    monkeypatch.setenv("CALIBRAE_PICTURES", variable)
    model = cb.build(data_shape=(3,), latent_dim=2, network="linear")
    cb.fit(model, table, tmp_path / "r", epochs=1, quiet=True, pictures=asked)
    assert (tmp_path / "r" / "curves.png").exists() == drawn


def test_a_variable_that_is_neither_yes_nor_no_is_refused(table, monkeypatch):
    monkeypatch.setenv("CALIBRAE_PICTURES", "maybe")
    with pytest.raises(ArgumentError, match="CALIBRAE_PICTURES must be 1 or 0, yes or no; got 'maybe'"):
        cb.fit(cb.build(data_shape=(3,), latent_dim=2, network="linear"), table, epochs=1, quiet=True)
