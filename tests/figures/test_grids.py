"""Pictures in their places."""

import numpy as np
import pytest
import torch
from PIL import Image

from calibrae.errors import ArgumentError
from calibrae.figures import image_grid, save_grid, save_histograms, save_pairs, save_walks
from calibrae.figures._grids import _interleave


def test_each_original_stands_above_its_reconstruction_in_a_short_last_row():
    above, below = torch.zeros(5, 1, 2, 2), torch.full((5, 1, 2, 2), 0.5)
    rows = _interleave(above, below, columns=3)[:, 0, 0, 0].reshape(4, 3)
    assert rows.tolist() == [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0, 1], [0.5, 0.5, 1]]


def test_a_grid_is_as_wide_as_what_it_holds(tmp_path):
    path = save_grid(torch.rand(2, 3, 56, 56), tmp_path / "x.png", columns=8)
    with Image.open(path) as picture:
        assert picture.size == (2 * 58 + 2, 60)


@pytest.mark.parametrize("side", [7, 8, 28, 56, 64])
def test_title_labels_and_captions_stand_beside_pixels_that_are_as_they_were(tmp_path, side):
    x, x_hat = torch.rand(2, 5, 3, side, side)
    words = {"title": "five of them", "captions": ["a.png", "a/long/path/of/a/picture.png", "c", "d", "e"]}
    with Image.open(save_grid(x_hat, tmp_path / "x.png", 3, reference=x, **words)) as picture:
        found = np.asarray(picture.convert("RGB"))
    factor = max(1, round(56 / side))
    for example in (*x, *x_hat):
        tile = (example * 255).byte().permute(1, 2, 0).numpy().repeat(factor, 0).repeat(factor, 1)
        assert is_in(found, tile)
    dark = (found < 120).all(-1)
    assert dark[:28].any(), "the title"
    assert dark[28:, :40].any(), "the labels of the rows"


def is_in(canvas, tile):
    """Tell whether a tile is part of a canvas, but for the rounding of its colours."""
    height, width = tile.shape[:2]
    corners = np.argwhere((np.abs(canvas[: 1 - height, : 1 - width].astype(int) - tile[0, 0]) <= 1).all(-1))
    return any(
        (np.abs(canvas[top : top + height, left : left + width].astype(int) - tile) <= 1).all() for top, left in corners
    )


def test_a_grid_shows_the_pixels():
    x = torch.rand(1, 3, 56, 56)
    canvas = image_grid(x, 1)
    assert torch.equal(torch.from_numpy(canvas[2:58, 2:58]).permute(2, 0, 1), x[0])


@pytest.mark.parametrize("columns", [1, 7])
def test_tables_are_drawn_column_by_column(tmp_path, columns):
    x, names = torch.randn(22, columns), [f"c{i}" for i in range(columns)]
    save_histograms(x, tmp_path / "h.png", names)
    save_pairs(x, x + 0.1, tmp_path / "p.png", names)
    save_walks(x, tmp_path / "w.png", names, steps=11)
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(ArgumentError, match="D names"):
        save_histograms(x, tmp_path / "x.png", names[1:])
    with pytest.raises(ArgumentError, match="steps"):
        save_walks(x, tmp_path / "x.png", names, steps=10)


def test_a_wide_table_shows_as_many_columns_as_fit(tmp_path):
    sizes = []
    for columns in (24, 30):
        save_histograms(torch.randn(22, columns), tmp_path / "x.png", [f"c{i}" for i in range(columns)])
        with Image.open(tmp_path / "x.png") as picture:
            sizes.append(picture.size)
    assert sizes[0] == sizes[1]


def oranges(path):
    """Pixels of the colour that marks."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    return int((abs(pixels - np.array([217, 102, 43])).sum(-1) < 12).sum())


def test_signals_have_labels_captions_and_frames(tmp_path):
    x = torch.sin(torch.linspace(0, 6, 64)).repeat(6, 1)[:, None]
    plain = save_grid(x, tmp_path / "plain.png", 3, title="signals")
    told = save_grid(
        x, tmp_path / "told.png", 3, title="signals", rows=["z3, KL 2.1", "z1, KL 1.0"], captions=["a", "b"]
    )
    framed = save_grid(x, tmp_path / "framed.png", 3, title="signals", framed=[1, 5])
    assert oranges(plain) == oranges(told) == 0
    assert oranges(framed) > 500
    with Image.open(plain) as one, Image.open(told) as other:
        assert (np.asarray(one) != np.asarray(other)).any()


def test_the_step_nearest_to_an_example_is_marked_on_the_walks_of_a_table(tmp_path):
    x = torch.linspace(0, 1, 22)[:, None].repeat(1, 2)
    plain = save_walks(x, tmp_path / "plain.png", ["a", "b"], 11)
    marked = save_walks(x, tmp_path / "marked.png", ["a", "b"], 11, marked=[3, 14])
    assert oranges(plain) == 0
    assert oranges(marked) > 50
