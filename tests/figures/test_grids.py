"""Pictures in their places."""

import torch

from calibrae.figures import image_grid, save_grid
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
