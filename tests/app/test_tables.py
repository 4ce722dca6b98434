"""The page Tables: rows, filled cells and odd rows of a run of a mixed table."""

import numpy as np
import pandas as pd
import pytest
from pets import table

import calibrae as cb
from calibrae.app._bench import Bench
from calibrae.app._tables import TablesPage
from calibrae.workflows import Queue

HOW = {"quiet": True, "pictures": False, "epochs": 3, "compile": "off"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tables") / "runs"
    data = cb.load_data(table(600))
    cb.fit(cb.build(spec=data.spec, latent_dim=2, options=cb.NetworkOptions(hidden=(16,))), data, place / "pets", **HOW)
    cb.fit(
        cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear"), "digits", place / "digits", **HOW
    )
    new = table(30, seed=4)
    new.loc[:4, "height"] = 500.0
    new.to_csv(place.parent / "new.csv", index=False)
    return place


@pytest.fixture(scope="module")
def page(folder, blocks):
    with blocks():
        yield TablesPage(Bench.of(folder, Queue(folder)))


def test_rows_are_drawn_over_the_data(page):
    said, drawn, rows, file = page._draw("pets", 50, "kind=dog\nrating = 5", 0)
    assert "50 rows of p(x &#124; kind = dog, rating = 5) (run pets, seed 0), from" in said
    assert drawn is not None
    assert "<td>dog</td>" in rows
    written = pd.read_csv(file["value"])
    assert len(written) == 50
    assert set(written["kind"]) == {"dog"}


def test_cells_are_filled(page, folder):
    said, rows, file = page._fill("pets", 0, str(folder.parent / "new.csv"), None)
    assert "cells filled" in said
    assert "<table" in rows
    assert not pd.read_csv(file["value"]).isna().any().any()


def test_odd_rows_are_named(page, folder):
    said, rows, file = page._watch("pets", 0, str(folder.parent / "new.csv"), None, 0.1)
    assert "rows raise the alarm" in said
    assert "strangest column" in rows
    assert "height" in rows
    written = pd.read_csv(file["value"]).sort_values("example")
    assert np.all(written["alarm"][:5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p._draw("digits", 5, "", 0), "runs of tables"),
        (lambda p: p._draw(None, 5, "", 0), "choose a run"),
        (lambda p: p._draw("pets", 0, "", 0), "number of rows"),
        (lambda p: p._draw("pets", 5, "kind", 0), "COLUMN=VALUE"),
        (lambda p: p._draw("pets", 5, "kind=<b>yak</b>", 0), "must be one of cat, dog, eel"),
        (lambda p: p._fill("pets", 0, " ", None), "name or send a table"),
        (lambda p: p._watch("pets", 0, "none.csv", None, 0.1), "none.csv"),
    ],
)
def test_mistakes_are_a_sentence(page, call, message):
    with pytest.raises(Exception, match=message) as caught:
        call(page)
    assert "Traceback" not in str(caught.value)
