"""One contract for every reporter: it takes whatever training tells it and never stops it."""

import sys

import pytest

from calibrae.training import Bar, Silent

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
        assert "validation ELBO 5.0 nats  3.200 bits/dim  RMSE 0.1000  sigma 0.1000  KL 1.0  best" in captured.err
        assert "validation loss -5.0 nats  RMSE 0.1000  KL 1.0\n" in captured.err


def test_what_selects_is_shown_beside_the_elbo_where_they_differ(capsys):
    Bar().epoch({**ROW, "validation_loss": 7.25}, best=True)
    assert (
        capsys.readouterr()
        .err.rstrip()
        .endswith("ELBO 5.0 nats  3.200 bits/dim  RMSE 0.1000  sigma 0.1000  KL 1.0  loss 7.2  best")
    )
