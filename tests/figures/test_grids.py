"""Pictures in their places."""

import pytest
import torch

from calibrae.errors import ArgumentError
from calibrae.figures import image_grid, save_grid, save_histograms, save_pairs, save_walks
from calibrae.figures._grids import _interleave


def test_each_original_stands_above_its_reconstruction_in_a_short_last_row():
    above, below = torch.zeros(5, 1, 2, 2), torch.full((5, 1, 2, 2), 0.5)
    rows = _interleave(above, below, columns=3)[:, 0, 0, 0].reshape(4, 3)
    assert rows.tolist() == [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0, 1], [0.5, 0.5, 1]]


def test_a_grid_is_as_wide_as_what_it_holds(tmp_path):
    path = save_grid(torch.rand(2, 3, 56, 56), tmp_path / "x.png", columns=8)
    from PIL import Image

    with Image.open(path) as picture:
        assert picture.size == (2 * 58 + 2, 60)


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
    from PIL import Image

    sizes = []
    for columns in (24, 30):
        save_histograms(torch.randn(22, columns), tmp_path / "x.png", [f"c{i}" for i in range(columns)])
        with Image.open(tmp_path / "x.png") as picture:
            sizes.append(picture.size)
    assert sizes[0] == sizes[1]
