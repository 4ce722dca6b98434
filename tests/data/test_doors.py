"""One table through every door: it means the same whichever way it comes in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, TensorDataset

import calibrae as cb
from calibrae.data import load_data, open_source
from calibrae.errors import DataError

NAMES = ("age", "height", "flag", "score")


class Rows(Dataset):
    """A map-style Dataset of dicts, as `datasets` yields them."""

    def __init__(self, table, named):
        self.table = table
        self.named = named

    def __len__(self):
        return len(self.table)

    def __getitem__(self, i):
        return dict(zip(NAMES, self.table[i].tolist(), strict=True)) if self.named else self.table[i]


class Annotated:
    """Annotated data, as AnnData has them."""

    def __init__(self, matrix):
        self.X = matrix
        self.shape = matrix.shape
        self.var_names = list(NAMES)


def frame(table):
    return pd.DataFrame(table, columns=list(NAMES))


def csv(table, folder):
    frame(table).to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def parquet(table, folder):
    pq.write_table(pa.Table.from_pandas(frame(table)), folder / "t.parquet")
    return folder / "t.parquet"


def semicolons(table, folder):
    frame(table).to_csv(folder / "s.csv", index=False, sep=";", decimal=",", encoding="utf-16")
    return folder / "s.csv"


def npy(table, folder):
    np.save(folder / "t.npy", table)
    return folder / "t.npy"


def npz(table, folder):
    np.savez(folder / "t.npz", data=table)
    return folder / "t.npz"


def rows_of_npy(table, folder):
    (folder / "each").mkdir()
    for i, row in enumerate(table):
        np.save(folder / "each" / f"{i:04}.npy", row)
    return folder / "each"


NAMED = {
    "csv": csv,
    "csv, decimal commas in UTF-16": semicolons,
    "parquet": parquet,
    "pandas": lambda t, _: frame(t),
    "arrow": lambda t, _: pa.Table.from_pandas(frame(t)),
    "dataset of dicts": lambda t, _: Rows(t, named=True),
    "annotated": lambda t, _: Annotated(t),
    "annotated, sparse": lambda t, _: Annotated(sp.csr_matrix(t)),
}
NAMELESS = {
    "array": lambda t, _: t,
    "tensor": lambda t, _: torch.from_numpy(t),
    "npy": npy,
    "npz": npz,
    "one npy a row": rows_of_npy,
    "list of lists": lambda t, _: t.tolist(),
    "dataset": lambda t, _: Rows(t, named=False),
    "tensor dataset": lambda t, _: TensorDataset(torch.from_numpy(t)),
    "loader": lambda t, _: DataLoader(TensorDataset(torch.from_numpy(t)), batch_size=7, shuffle=True),
    "loader with a collate of its own": lambda t, _: DataLoader(Rows(t, named=False), 7, collate_fn=lambda b: torch.from_numpy(np.stack(b))),
    "masked, nothing masked": lambda t, _: np.ma.masked_equal(t, 1e9),
    "sparse": lambda t, _: sp.csr_matrix(t),
    "sparse tensor": lambda t, _: torch.from_numpy(t).to_sparse(),
    "long double": lambda t, _: t.astype(np.longdouble),
}  # fmt: skip


def table(seed=0, n=60):
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n)
    height = np.round(rng.normal(1.7, 0.1, n), 2)
    return np.stack([age, height, rng.integers(0, 2, n), rng.normal(size=n)], axis=1)


def elbo(data, model):
    found = model.elbo(next(iter(data.batches("test", 100))).x, eps=torch.zeros(len(data.view("test")), 2))
    return found.elbo.detach()


@pytest.mark.parametrize("door", [*NAMED, *NAMELESS])
def test_a_table_means_the_same_by_every_door(door, tmp_path):
    rows = table()
    made = (NAMED | NAMELESS)[door](rows, tmp_path)
    known = load_data(frame(rows) if door in NAMED else rows)
    data = load_data(made)
    assert data.source.schema == known.source.schema
    np.testing.assert_array_equal(np.asarray(data.source.parts["all"], dtype=np.float64), rows)
    for split in ("train", "validation", "test"):
        one, other = (next(iter(d.batches(split, 100))) for d in (data, known))
        assert torch.equal(one.x, other.x)
    model = cb.build("vae", data_shape=(4,), latent_dim=2, network="linear")
    assert torch.equal(elbo(data, model), elbo(known, model))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["counts", "flags", "tenths", "grades", "normal", "far", "tiny"]), min_size=1, max_size=4),
    st.integers(0, 1000),
)
def test_columns_of_every_kind_agree_between_files_and_memory(tmp_path, kinds, seed):
    rng, n = np.random.default_rng(seed), 50
    columns = {
        "counts": rng.poisson(3, n) - 1.0,
        "flags": rng.integers(0, 2, n) * 5.0,
        "tenths": rng.integers(0, 20, n) / 10,
        "grades": rng.choice([1.0, 1.5, 2.25], n),
        "normal": rng.normal(size=n),
        "far": 5.4e6 + rng.normal(size=n) * 10,
        "tiny": rng.normal(size=n) * 1e-17,
    }
    made = pd.DataFrame({f"{kind}{i}": columns[kind] for i, kind in enumerate(kinds)})
    made.to_csv(tmp_path / "t.csv", index=False)
    pq.write_table(pa.Table.from_pandas(made), tmp_path / "t.parquet")
    schemas = [open_source(data).schema for data in (made, tmp_path / "t.csv", tmp_path / "t.parquet")]
    assert schemas[0] == schemas[1] == schemas[2]
    bare = open_source(made.to_numpy()).schema
    assert [(c.kind, c.step, c.levels) for c in bare.fields] == [(c.kind, c.step, c.levels) for c in schemas[0].fields]


@pytest.mark.parametrize("door", [*NAMED, *NAMELESS])
def test_a_dict_takes_what_is_taken_alone(door, tmp_path):
    if door == "one npy a row":
        pytest.skip("the two halves would lie in one folder")
    rows = table()
    one, two = tmp_path / "a", tmp_path / "b"
    one.mkdir()
    two.mkdir()
    make = (NAMED | NAMELESS)[door]
    data = load_data({"train": make(rows[:50], one), "test": make(rows[50:], two)})
    assert {split: len(view) for split, view in data.views.items()} == {"train": 45, "validation": 5, "test": 10}
    np.testing.assert_array_equal(data.view("test").slice(0, 10).double().numpy(), rows[50:])


def test_the_parts_of_a_dict_are_joined_by_name_and_must_agree():
    rows = frame(table())
    data = load_data({"train": rows[:50], "test": rows[50:][["flag", "age", "score", "height"]]})
    np.testing.assert_array_equal(data.view("test").slice(0, 10).numpy(), rows[50:].to_numpy())
    with pytest.raises(DataError, match="the parts must have the same columns; test and train differ in age"):
        load_data({"train": rows[:50], "test": rows[50:].drop(columns="age")})


def test_polars_frames_are_read_like_pandas_ones():
    polars = pytest.importorskip("polars")
    rows = table()
    assert open_source(polars.DataFrame(rows, schema=list(NAMES))).schema == open_source(frame(rows)).schema
