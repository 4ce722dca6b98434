"""The picture of a sweep: labels that can be read, and points that can be told apart."""

import pytest
import torch

from calibrae.evaluation import RatePoint, Recommendation
from calibrae.figures import _rate, save_rate_distortion
from calibrae.functional import LinearCode


def a_point(kl, **axes):
    return RatePoint(
        name=str(axes), axes=axes, beta=1.0, sigma=None, latent_dim=4, elbos=torch.arange(4.0), kl_nats=kl, reconstruction_nats=50.0 - kl,
        sse=1.0, active_units=4,
    )  # fmt: skip


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw, and give the figure instead of its file."""
    monkeypatch.setattr(_rate, "save_figure", lambda figure, _: figure)

    def draw(points, axes, linear=None):
        chosen = Recommendation(points[-1].name, 1.0, 1.0, 4, "")
        return save_rate_distortion(points, linear or {}, chosen, axes, tmp_path / "x.png")

    return draw


def test_labels_that_would_cover_each_other_are_left_out(drawn):
    points = [a_point(30.0, beta=0.5), a_point(1.0, beta=4.0), a_point(1.01, beta=3.9)]
    left, _ = drawn(points, ["beta"]).axes
    # the recommended one first, which hides its neighbour
    assert [text.get_text() for text in left.texts] == ["3.9", "0.5"]


def test_each_latent_size_has_a_shade_of_its_own_in_both_panels(drawn):
    points = [a_point(d + b, beta=b, latent_dim=d) for d in (8, 16, 32) for b in (1.0, 2.0)]
    figure = drawn(points, ["beta", "latent_dim"])
    left, right = figure.axes
    shades = [line.get_color() for line in left.lines if str(line.get_label()).startswith("latent size")]
    assert len(set(shades)) == 3
    assert shades == [container.lines[0].get_color() for container in right.containers]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "latent size 8", "latent size 16", "latent size 32", "recommended",
    ]  # fmt: skip


def test_a_search_names_the_smallest_and_the_largest_alone(drawn):
    points = [a_point(float(d), beta=1.0 + d, latent_dim=d) for d in range(4, 16)]
    figure = drawn(points, ["beta", "latent_dim"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "latent size 4",
        "latent size 15",
        "recommended",
    ]


@pytest.mark.parametrize("sizes", [[50], [8, 16, 32, 64], list(range(8, 38))])
def test_the_legend_lies_within_the_picture(drawn, sizes):
    points = [a_point(d + b, beta=b, latent_dim=d) for d in sizes for b in (1.0, 2.0)]
    linear = {d: [LinearCode(d, float(k), 100.0 / (1 + k)) for k in range(5)] for d in sizes}
    figure = drawn(points, ["beta", "latent_dim"], linear)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert 0 <= box.y0 < box.y1 < 0.25 * figure.bbox.height
