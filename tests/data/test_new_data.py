"""New data for a trained model: read by the schema of its training, never guessed anew."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import calibrae as cb
from calibrae.data import DataOptions, load_data
from calibrae.errors import DataError

RNG = np.random.default_rng(0)
PLAIN = {"epochs": 1, "quiet": True, "pictures": False, "compile": "off", "precision": "fp32", "threads": 1}
FRAME = pd.DataFrame({"a": RNG.normal(50, 10, 200), "b": RNG.normal(size=200), "n": RNG.integers(0, 9, 200)})


def read(known, data, **options):
    return load_data(data, DataOptions(**options), known.preparation, split=False)


def seen(data):
    return torch.cat([batch.x for batch in data.batches("all", 64)])


@pytest.fixture(scope="module")
def table():
    return load_data(FRAME)


def test_columns_are_found_by_name(table):
    other = FRAME[["n", "a", "b"]].assign(extra=1.0)
    found = read(table, other)
    assert torch.equal(seen(found), seen(read(table, FRAME)))
    assert any("extra" in note for note in found.source.notes)
    assert any("another order" in note for note in read(table, FRAME[["n", "a", "b"]]).source.notes)


def test_text_in_a_column_that_the_model_does_not_know_does_no_harm(table, tmp_path):
    FRAME.assign(name="x").to_csv(tmp_path / "t.csv", index=False)
    FRAME.assign(name="x").to_parquet(tmp_path / "t.parquet")
    for data in (FRAME.assign(name="x"), tmp_path / "t.csv", tmp_path / "t.parquet"):
        found = read(table, data)
        assert torch.equal(seen(found), seen(read(table, FRAME)))
        assert any("name" in note for note in found.source.notes)


def test_missing_columns_are_refused(table):
    with pytest.raises(DataError, match="missing: b"):
        read(table, FRAME[["a", "n"]])
    with pytest.raises(DataError, match="missing: a, b, n"):
        read(table, FRAME.rename(columns=str.upper))


def test_columns_without_names_are_taken_in_order_and_said(table):
    found = read(table, FRAME.to_numpy())
    assert torch.equal(seen(found), seen(read(table, FRAME)))
    assert any("columns without names" in note for note in found.source.notes)


def test_one_row_and_one_picture(table):
    assert seen(read(table, FRAME.iloc[:1])).shape == (1, 3)
    assert seen(read(table, FRAME.to_numpy()[0])).shape == (1, 3)
    pictures = load_data(RNG.integers(0, 256, (30, 1, 5, 4), dtype=np.uint8))
    for one in (np.zeros((1, 5, 4), np.uint8), np.zeros((5, 4), np.uint8)):
        assert seen(read(pictures, one)).shape == (1, 1, 5, 4)


def test_values_off_a_columns_steps_are_counted(table):
    found = read(table, FRAME.assign(n=FRAME.n + 0.5))
    assert any("n (200)" in note for note in found.source.notes)


def test_floats_are_read_on_the_scale_of_training():
    k = RNG.integers(0, 256, (60, 1, 8, 8))
    known = load_data((k / 255).astype(np.float32))
    bits = (RNG.random((9, 1, 8, 8)) > 0.5).astype(np.float32)
    as_bytes, as_floats = (read(known, made).source.parts["all"] for made in ((bits * 255).astype(np.uint8), bits))
    np.testing.assert_array_equal(as_bytes, as_floats)
    with pytest.raises(DataError, match="holds floats; the model was trained on values"):
        read(known, RNG.random((9, 1, 8, 8)))
    by_bytes = load_data(k.astype(np.uint8))
    np.testing.assert_array_equal(read(by_bytes, (k / 255).astype(np.float32)).source.parts["all"], k)
    np.testing.assert_array_equal(read(by_bytes, k.astype(np.float64)).source.parts["all"], k)


def test_values_a_little_outside_the_range_are_kept_and_counted():
    known = load_data(RNG.random((40, 1, 4, 4)))
    new = RNG.random((9, 1, 4, 4))
    new[0, 0, 0, 0] = 1.0001
    assert any("1 value outside the range" in note for note in read(known, new).source.notes)
    with pytest.raises(DataError, match="must lie on the stated range"):
        read(known, new * 255)


def save(folder, sizes, mode="RGB"):
    folder.mkdir()
    for i, n in enumerate(sizes):
        shape = (n, n, 3) if mode == "RGB" else (n, n)
        Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_pictures_are_brought_to_the_size_and_colour_of_training(tmp_path):
    known = load_data(save(tmp_path / "train", [16] * 20))
    found = read(known, save(tmp_path / "sizes", [16, 20, 24]))
    assert found.source.parts["all"].shape == (3, 3, 16, 16)
    assert any("to 16 x 16" in note for note in found.source.notes)
    assert read(known, save(tmp_path / "grey", [16, 16], "L")).source.parts["all"].shape == (2, 3, 16, 16)
    grey = load_data(save(tmp_path / "l", [16] * 20, "L"))
    found = read(grey, tmp_path / "train")
    assert found.source.parts["all"].shape == (20, 1, 16, 16)
    assert any("turned into grey" in note for note in found.source.notes)
    assert seen(read(known, tmp_path / "train" / "3.png")).shape == (1, 3, 16, 16)


def test_a_run_is_given_new_data_by_every_verb(tmp_path):
    run = cb.fit(cb.build("sigma-vae", data_shape=(3,), latent_dim=1), FRAME, tmp_path / "r", **PLAIN)
    other = FRAME.iloc[:20][["n", "b", "a"]]
    assert run.evaluate(other).n == 20
    assert any("all 20 examples" in note for note in run.evaluate(other).notes)
    assert run.score(other).names == [str(i) for i in range(20)]
    assert run.encode(other).shape == (20, 1)
    rebuilt = run.reconstruct(other)
    assert list(rebuilt.columns) == ["a", "b", "n"]
    assert rebuilt["n"].dtype.kind == "i"
    assert rebuilt.index.equals(other.index)


def test_far_rows_are_scored_and_named(tmp_path):
    run = cb.fit(cb.build("sigma-vae", data_shape=(3,), latent_dim=1), FRAME, tmp_path / "r", **{**PLAIN, "epochs": 20})
    far = FRAME.iloc[:10].copy()
    far.loc[7, "a"] = 1e5
    scores = run.score(far)
    assert scores.order[0] == 7
    assert torch.isfinite(scores.nll).all()
    far.loc[7, "a"] = 1e25
    with pytest.raises(DataError, match=r"finite ELBO.*: 7\."):
        run.evaluate(far)
    with pytest.raises(DataError, match=r"near enough.*: 7\."):
        run.score(far)


def test_moved_data_are_asked_for_and_found_again(tmp_path):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    model = cb.build("sigma-vae", data_shape=(3,), latent_dim=1)
    cb.fit(model, tmp_path / "t.csv", tmp_path / "r", **PLAIN)
    (tmp_path / "t.csv").rename(tmp_path / "moved.csv")
    with pytest.raises(cb.errors.RunError, match="Name their new place"):
        cb.evaluate(tmp_path / "r")
    fresh = cb.build("sigma-vae", data_shape=(3,), latent_dim=1)
    cb.fit(fresh, tmp_path / "moved.csv", tmp_path / "r", resume=True, quiet=True, pictures=False, epochs=2)
    assert cb.evaluate(tmp_path / "r").n == 20
