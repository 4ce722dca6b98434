"""Maps of codes: which classes colour them, on which axes, and where nothing tells examples apart."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import calibrae as cb
from calibrae.errors import ArgumentError
from calibrae.figures._map import grouped
from calibrae.models import evaluating
from calibrae.workflows import code_map

RNG = np.random.default_rng(0)


def model_of(data, d=3, name="sigma-vae"):
    contexts = 0 if data.condition is None else data.condition.dim
    model = cb.build(name, spec=data.spec, latent_dim=d, network="linear", context_dim=contexts, seed=0)
    if model.is_probabilistic:
        cb.fix_scale(model, data)
    return model


def mapped(data, **how):
    return code_map(model_of(data), data, "all", **how)


def test_a_map_is_the_projection_on_two_principal_components():
    data = cb.load_data(RNG.normal(size=(80, 5)))
    model = model_of(data)
    found = code_map(model, data, "all")
    batch = next(iter(data.batches("all", 80)))
    with evaluating(model):
        codes = model.encode(batch.x).mean.double().numpy()
    expected = PCA(2).fit_transform(codes)
    signs = np.sign((expected * found.points.numpy()).sum(0))
    np.testing.assert_allclose(found.points.numpy(), expected * signs, atol=1e-5)


def test_digits_are_coloured_by_their_label():
    found = mapped(cb.load_data("digits"))
    assert found.by == "by label"
    target = load_digits().target
    assert found.groups == [str(target[row]) for row in found.rows.tolist()]
    assert not found.values


def test_the_elbo_colours_them_where_it_is_asked_for():
    found = mapped(cb.load_data("digits"), colour="elbo")
    assert (found.by, len(found.values), found.groups) == ("by the ELBO", len(found.rows), [])


def test_a_condition_of_classes_comes_first():
    data = cb.load_data(RNG.normal(size=(60, 4)), condition=np.arange(60) % 3)
    assert mapped(data).groups == [str(row % 3) for row in mapped(data).rows.tolist()]


@pytest.mark.parametrize("values", [RNG.normal(size=60), np.arange(60) % 3 + 0.5])
def test_a_numeric_condition_is_no_class(values):
    assert mapped(cb.load_data(RNG.normal(size=(60, 4)), condition=values)).by == "by the ELBO"


def test_labels_of_many_values_are_no_classes(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=RNG.normal(size=(60, 4)), y_train=np.arange(60))
    assert mapped(cb.load_data(tmp_path / "x.npz")).by == "by the ELBO"


@pytest.mark.parametrize("missing", [0, 1])
def test_labels_beside_an_array_are_kept_if_there_is_one_for_each_example(tmp_path, missing):
    np.savez(tmp_path / "x.npz", x_train=RNG.normal(size=(60, 4)), y_train=np.arange(60 - missing) % 3)
    data = cb.load_data(tmp_path / "x.npz")
    note = (
        "labels are left out: there is not one for each example"
        if missing
        else "labels are not modelled (--condition label conditions on them)"
    )
    assert note in data.source.notes
    found = mapped(data)
    assert found.groups == ([] if missing else [str(row % 3) for row in found.rows.tolist()])


def pictures(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(folder / name)
    return cb.load_data(folder)


def test_folders_of_pictures_are_classes(tmp_path):
    data = pictures(tmp_path / "all", [f"{'cat' if i % 3 else 'dog'}/{i}.png" for i in range(30)])
    found = mapped(data)
    assert found.by == "by class"
    assert found.groups == [name.split("/")[0] for name in found.names]


def test_pictures_without_folders_have_no_class(tmp_path):
    assert mapped(pictures(tmp_path / "all", [f"{i}.png" for i in range(30)])).by == "by the ELBO"
    mixed = pictures(tmp_path / "some", ["0.png", *(f"cat/{i}.png" for i in range(1, 30))])
    assert mapped(mixed).by == "by the ELBO"


def test_the_label_of_pictures_in_parquet_colours_them(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "png"
    pictures(folder, [f"{i}.png" for i in range(30)])
    cells = [{"bytes": (folder / f"{i}.png").read_bytes(), "path": None} for i in range(30)]
    for name, labels in (("whole", [i % 2 for i in range(30)]), ("holes", [None] + [1] * 29)):
        pq.write_table(pa.table({"image": cells, "label": labels, "id": list(range(30))}), tmp_path / f"{name}.parquet")
    found = mapped(cb.load_data(tmp_path / "whole.parquet"))
    assert found.groups == [str(row % 2) for row in found.rows.tolist()]
    assert any("1 other column left out" in note for note in cb.load_data(tmp_path / "whole.parquet").source.notes)
    assert mapped(cb.load_data(tmp_path / "holes.parquet")).by == "by the ELBO"
    assert any("2 other columns left out" in note for note in cb.load_data(tmp_path / "holes.parquet").source.notes)


def test_one_spike_does_not_take_all_colours_of_the_live_plot():
    found = mapped(cb.load_data("digits"), colour="elbo")
    values = np.asarray(found.values)
    marker = found.plot()["data"][0]["marker"]
    np.testing.assert_allclose([marker["cmin"], marker["cmax"]], np.quantile(values, [0.02, 0.98]))


def test_the_live_plot_says_its_axes_and_invents_no_value():
    data = cb.load_data(RNG.normal(size=(60, 4)))
    found = code_map(model_of(data), data, "all", method="t-sne")
    assert found.plot()["layout"]["xaxis"]["title"]["text"] == "first t-SNE axis"
    plain = cb.load_data(RNG.normal(size=(60, 4)))
    without = code_map(model_of(plain, name="autoencoder"), plain, "all")
    assert without.by == "alike"
    assert not any("nats" in text for text in without.plot()["data"][0]["text"])
    assert torch.isfinite(without.points).all()


def test_eighteen_classes_are_told_apart_and_the_rarest_of_more_are_others():
    named = [f"c{i:02d}" for i in range(18) for _ in range(2 + i)]
    looks = [(colour, marker) for _, _, colour, marker in grouped(named)]
    assert len(set(looks)) == 18
    found = {group: rows for group, rows, _, _ in grouped([*named, "rare"])}
    assert len(found) == 18
    assert [([*named, "rare"])[row] for row in found["others"]] == ["c00", "c00", "rare"]


@pytest.mark.parametrize(
    "labels",
    [
        {"y_train": np.arange(40) % 3, "y_test": np.eye(2)[np.arange(20) % 2]},  # of two dimensions in one part
        {"y_train": np.arange(40) % 3, "y_test": np.array(["a", "b"] * 10)},
        {"y_train": np.where(np.arange(40) % 2, np.nan, 1.0), "y_test": np.arange(20) % 3 + 0.0},
        {"y_train": np.array(3)},
        {"y_train": np.arange(40) % 3},
    ],
)
def test_labels_that_tell_no_classes_colour_nothing_and_stop_nothing(tmp_path, labels):
    np.savez(tmp_path / "x.npz", x_train=RNG.normal(size=(40, 4)), x_test=RNG.normal(size=(20, 4)), **labels)
    assert mapped(cb.load_data(tmp_path / "x.npz")).by == "by the ELBO"


@pytest.mark.parametrize("two", [False, True])
def test_each_split_has_its_own_labels(tmp_path, two):
    own = {"train": np.arange(40) % 3, "test": 10 + np.arange(20) % 2}
    shaped = {f"y_{part}": (values[:, None] if two else values) for part, values in own.items()}
    np.savez(tmp_path / "x.npz", x_train=RNG.normal(size=(40, 4)), x_test=RNG.normal(size=(20, 4)), **shaped)
    data = cb.load_data(tmp_path / "x.npz")
    found = code_map(model_of(data), data, "test")
    assert found.groups == [str(own["test"][row]) for row in found.rows.tolist()]


def test_labels_of_bytes_are_words(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=RNG.normal(size=(60, 4)), y_train=np.array([b"cat", b"dog"] * 30))
    assert set(mapped(cb.load_data(tmp_path / "x.npz")).groups) == {"cat", "dog"}


def test_folders_of_splits_have_classes_below(tmp_path):
    names = [f"train/{'cat' if i % 3 else 'dog'}/{i}.png" for i in range(24)]
    data = pictures(tmp_path / "all", [*names, *(f"test/{'cat' if i % 2 else 'dog'}/{i}.png" for i in range(12))])
    found = code_map(model_of(data), data, "test")
    assert found.groups == [name.split("/")[1] for name in found.names]


def test_classes_stand_in_the_order_of_their_numbers():
    assert [group for group, *_ in grouped([str(i) for i in range(12)])] == [str(i) for i in range(12)]
    assert [group for group, *_ in grouped(["b", "10", "a"])] == ["10", "a", "b"]


def test_what_cannot_colour_a_map_is_refused():
    data = cb.load_data(RNG.normal(size=(60, 4)))
    with pytest.raises(ArgumentError, match="`colour` must be one of classes, elbo; got 'label'"):
        mapped(data, colour="label")
    with pytest.raises(ArgumentError, match="a plain autoencoder has no ELBO"):
        code_map(model_of(data, name="autoencoder"), data, "all", colour="elbo")
