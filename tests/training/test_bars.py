"""Bars: drawn on a terminal and in a notebook's own kernel, and nowhere else."""

import io
import sys
import threading

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import calibrae as cb
from calibrae._progress import seen
from calibrae.training import Bar, _bars, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(name="shown_at_once")
def _shown_at_once(monkeypatch):
    monkeypatch.setattr(_bars, "QUICK", 0.0)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.usefixtures("shown_at_once")
@pytest.mark.parametrize(
    ("stream", "show", "is_seen"), [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)]
)
def test_a_terminal_shows_how_far_work_is(monkeypatch, stream, show, is_seen):
    monkeypatch.setattr(sys, "stderr", stream())
    with progress_bar(show=show):
        seen("reading", 30, 60)
    said = sys.stderr.getvalue()
    assert ("reading" in said and "50%" in said) == is_seen
    assert bool(said) == is_seen


def test_work_of_a_moment_has_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar():
        seen("reading", 1, 2)
    assert sys.stderr.getvalue() == ""


@pytest.mark.usefixtures("shown_at_once")
def test_a_thread_and_another_process_than_the_first_have_none(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())

    def work():
        with progress_bar():
            seen("reading", 1, 2)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    work()
    assert sys.stderr.getvalue() == ""


@pytest.mark.usefixtures("shown_at_once")
def test_who_watches_already_is_told_and_no_bar_is_drawn(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    found = []
    with cb.watched(lambda *told: found.append(told)), progress_bar():
        seen("ELBO", 3, 5)
    assert found == [("ELBO", 3, 5)]
    assert sys.stderr.getvalue() == ""


@pytest.fixture(scope="module")
def digits_run():
    model = cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2)
    return cb.fit(model, "digits", epochs=1, quiet=True, pictures=False)


def test_every_verb_that_takes_long_says_how_far_it_is(digits_run):
    rows = np.random.default_rng(0).integers(0, 17, (20, 1, 8, 8))
    for verb, stages in (
        (lambda: digits_run.evaluate(importance_samples=3), {"ELBO", "log p(x), K = 3"}),
        (lambda: digits_run.score(importance_samples=2), {"log p(x), K = 2"}),
        (lambda: digits_run.encode(rows), {"encoding"}),
    ):
        found = []
        with cb.watched(lambda *told, found=found: found.append(told)):
            verb()
        assert stages <= {stage for stage, *_ in found}
        for stage in stages:
            done = [(count, total) for name, count, total in found if name == stage]
            assert done == sorted(done)
            assert done[-1][0] == done[-1][1]


def test_a_watcher_can_end_the_work(digits_run):
    def too_long(*_):
        raise TimeoutError

    with cb.watched(too_long), pytest.raises(TimeoutError):
        digits_run.evaluate()


def test_of_a_long_run_not_every_epoch_has_a_row(capsys):
    reporter = Bar()
    for epoch in range(1, 401):
        reporter.epoch({"epoch": epoch, "seconds": 1.0, "validation_loss": 2.0, "validation_rmse": 0.5}, best=True)
    rows = [line.split() for line in capsys.readouterr().err.splitlines() if line.endswith("best")]
    assert [int(row[0]) for row in rows] == [*range(1, 21), *range(30, 201, 10), 300, 400]


def outputs_of(tmp_path, *cells):
    """What a notebook keeps under each of its cells."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    return [cell.outputs for cell in book.cells]


def test_a_notebook_has_a_bar_of_its_own_that_is_gone_at_the_end(tmp_path):
    half, trained = outputs_of(
        tmp_path,
        "from calibrae.training._bars import open_bar\nbar = open_bar()\nbar.write('<said>')\nbar.show('reading', 3, 12, 'so far')\nbar._draw(bar=True)",
        "import calibrae as cb\nmodel = cb.build('sigma-vae', data_shape=(1, 8, 8), latent_dim=2)\nrun = cb.fit(model, 'digits', epochs=3, pictures=False)",
    )
    (shown,) = half
    assert shown.output_type == "display_data"
    assert "<progress value='3' max='12'" in shown.data["text/html"]
    assert "reading  25%" in shown.data["text/html"]
    assert "&lt;said&gt;" in shown.data["text/html"]
    assert "reading  25%" in shown.data["text/plain"]
    table = next(
        one for one in trained if one.output_type == "display_data" and "epoch" in one.data.get("text/plain", "")
    )
    assert "<progress" not in table.data["text/html"]
    epochs = [line.split()[0] for line in table.data["text/plain"].splitlines() if line.strip()[:1].isdigit()]
    assert epochs == ["1", "2", "3"]


@pytest.mark.usefixtures("shown_at_once")
def test_without_what_draws_it_or_a_place_to_draw_work_goes_on(monkeypatch):
    monkeypatch.setattr(_bars, "find_spec", lambda name: None)  # noqa: ARG005 (as without rich)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar():
        seen("reading", 1, 2)
    assert sys.stderr.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)  # a program with windows
    with progress_bar():
        seen("reading", 1, 2)
