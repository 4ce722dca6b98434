"""One contract for every reporter: it takes whatever training tells it and never stops it."""

import sys

import pytest

from calibrae.training import Bar, Silent
from calibrae.training._progress import format_terms

ROW = {"epoch": 1, "seconds": 2.0, "sigma": 0.1, "validation_loss": -5.0, "validation_elbo": 5.0, "validation_nll": -6.0, "validation_kl": 1.0, "validation_rmse": 0.1, "validation_bits_per_dim": 3.2}  # fmt: skip
TERMS = {"loss": -5.0, "kl": 1.0, "rmse": 0.1, "sigma": 0.1, "bits_per_dim": 3.2}


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("kind", [Bar, Silent])
def test_a_reporter_takes_everything(kind, terminal, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")  # a terminal breaks long lines
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    reporter = kind()
    reporter.say("[before] start")
    reporter.start(10, 3)
    reporter.step(4, TERMS)
    reporter.step(5, {"loss": 1.0, "kl": 0.0, "rmse": 0.5})
    reporter.epoch(ROW, best=True)
    reporter.epoch({k: v for k, v in ROW.items() if "elbo" not in k and "bits" not in k and k != "sigma"}, best=False)
    reporter.say("done")
    reporter.close()
    reporter.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    if kind is Silent:
        assert captured.err == ""
    else:
        assert "[before] start" in captured.err
        assert "ELBO  bits/dim    RMSE   sigma       KL" in captured.err
        assert "    1      2 s        5.00     3.200  0.1000  0.1000      1.0  best\n" in captured.err


def test_a_plain_autoencoder_has_its_loss(capsys):
    Bar().epoch({k: v for k, v in ROW.items() if not any(part in k for part in ("elbo", "bits", "sigma"))}, best=False)
    assert capsys.readouterr().err.splitlines()[-1] == "    1      2 s       -5.00  0.1000      1.0"


def test_what_selects_is_shown_beside_the_elbo_where_they_differ(capsys):
    Bar().epoch({**ROW, "validation_loss": 7.25}, best=True)
    head, line = capsys.readouterr().err.splitlines()[-2:]
    assert head.split()[:4] == ["epoch", "time", "ELBO", "loss"]
    assert line == "    1      2 s        5.00        7.25     3.200  0.1000  0.1000      1.0  best"


def test_lines_fit_eighty_characters(capsys):
    large = {
        "epoch": 12345,
        "seconds": 99999.0,
        "validation_elbo": -123456.78,
        "validation_loss": 223456.78,
        "validation_kl": 1234.5,
    }
    Bar().epoch({**ROW, **large}, best=True)
    assert max(map(len, capsys.readouterr().err.splitlines())) <= 80
    terms = {"elbo": -12345.6, "kl": 123.4, "rmse": 0.1, "sigma": 0.1, "bits_per_dim": 5.123}
    assert 10 + 1 + 4 + 1 + 8 + 1 + len(format_terms(terms)) <= 80  # bar, share and time before it


def test_how_it_is_done_is_told_to_those_who_ask(capsys):
    Bar().detail("compiled")
    assert capsys.readouterr().err == ""
    Bar(verbose=True).detail("compiled")
    assert capsys.readouterr().err == "compiled\n"
