"""Curves that one spike does not flatten."""

import pytest

from calibrae.figures import _curves, save_curves


def history(epochs, spikes=(), **others):
    rows = []
    for epoch in range(1, epochs + 1):
        loss = 100.0 - epoch + (1e6 if epoch in spikes else 0.0)
        parts = {"nll": 40.0, "kl": 10.0, "elbo": -loss, "rmse": 0.1}
        row = {"epoch": epoch, "lr": 1e-3, "train_loss": loss, "validation_loss": loss, "sigma": 0.1}
        rows.append(row | {f"validation_{name}": value for name, value in parts.items()} | others)
    return rows


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws a history, and returns the panels."""

    def draw(rows):
        figures = []
        monkeypatch.setattr(_curves, "save_figure", lambda figure, path: figures.append(figure) or path)
        save_curves(rows, tmp_path / "x.png")
        return figures[0].axes

    return draw


@pytest.mark.parametrize("spikes", [(1,), (7,), (3, 12)])
def test_a_spike_lies_outside_the_panel_which_says_so(drawn, spikes):
    loss = drawn(history(40, spikes))[0]
    low, high = loss.get_ylim()
    assert low <= 60.0
    assert high < 200
    assert [text.get_text() for text in loss.texts] == [f"{2 * len(spikes)} points above"]  # training and validation


def test_curves_without_spikes_are_shown_whole(drawn):
    loss = drawn(history(40))[0]
    assert loss.get_ylim()[1] >= 99.0
    assert not loss.texts


def test_the_kept_epoch_is_marked_and_a_single_epoch_is_seen(drawn):
    panels = drawn(history(3, spikes=(3,)))
    assert "kept epoch 2" in panels[0].get_title()
    assert any(list(line.get_xdata()) == [2, 2] for line in panels[0].lines)
    assert all(line.get_marker() == "o" for line in drawn(history(1))[0].lines)
