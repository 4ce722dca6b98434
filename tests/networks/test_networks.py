"""Every network takes every shape and gives it back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import calibrae as cb
from calibrae.errors import ArgumentError, ShapeError
from calibrae.networks import Grid, build_networks, resolve_network
from calibrae.networks._activation import LeakyReLU
from calibrae.networks._conv import unpatch

sides = st.integers(1, 40)
shapes = st.one_of(
    st.tuples(st.integers(1, 4), sides, sides), st.tuples(st.integers(1, 4), st.integers(1, 600)), st.tuples(sides)
)
small = cb.NetworkOptions(hidden=(8,), width=4)


def round_trip(name, shape, latent_dim=3, batch=2):
    encoder, decoder = build_networks(name, shape, latent_dim, 2, small)
    features = encoder(torch.randn(batch, *shape))
    assert features.shape == (batch, 2 * latent_dim)
    x_hat = decoder(features[:, :latent_dim])
    assert x_hat.shape == (batch, *shape)
    x_hat.square().sum().backward()
    missing = [n for part in (encoder, decoder) for n, p in part.named_parameters() if p.grad is None]
    assert [n for n in missing if "constant" not in n] == []


@given(shapes, st.sampled_from(["auto", "linear", "mlp", "conv"]))
@settings(max_examples=60)
def test_round_trip_over_random_shapes(shape, name):
    if name == "conv" and len(shape) == 1:
        with pytest.raises(ArgumentError, match="network='mlp'"):
            build_networks(name, shape, 3)
        return
    round_trip(name, shape)


@pytest.mark.parametrize("shape", [(3, 512, 512), (1, 1, 1), (3, 1, 512), (1, 512, 3), (3, 217, 33), (2, 512), (1, 1)])
def test_conv_at_the_edges_of_its_range(shape):
    round_trip("conv", shape)


@given(sides, sides)
def test_a_grid_pads_to_what_it_halves(height, width):
    grid = Grid.of(height, width)
    assert grid.padded[0] >= height
    assert grid.padded[1] >= width
    assert max(grid.coarse) <= 4
    assert grid.coarse[0] * grid.total_stride[0] == grid.padded[0]


def test_leaky_relu_and_its_gradients_are_those_of_torch():
    x = torch.randn(40, dtype=torch.float64).requires_grad_()
    ours, theirs = LeakyReLU(0.2)(x), torch.nn.functional.leaky_relu(x, 0.2)
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, theirs)))
    assert torch.autograd.gradgradcheck(LeakyReLU(0.2), (x,))


def test_unpatch_keeps_channels_last():
    h = torch.randn(2, 12, 3, 5).contiguous(memory_format=torch.channels_last)
    assert unpatch(h, (2, 2)).is_contiguous(memory_format=torch.channels_last)


def test_unpatch_is_pixel_shuffle_where_patches_are_square():
    h = torch.randn(2, 12, 3, 5)
    assert torch.equal(unpatch(h, (2, 2)), torch.nn.functional.pixel_shuffle(h, 2))
    assert unpatch(h, (1, 3)).shape == (2, 4, 3, 15)


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 32, 32), "conv"), ((1, 8, 8), "mlp"), ((1, 100), "conv"), ((13,), "mlp")]
)
def test_auto(shape, expected):
    assert resolve_network("auto", shape) == expected


def test_wrong_shape_and_names_say_so():
    encoder, _ = build_networks("mlp", (3, 4), 2)
    with pytest.raises(ShapeError, match=r"takes data of shape \(3, 4\)"):
        encoder(torch.zeros(2, 4, 3))
    with pytest.raises(ArgumentError, match="one of auto, linear"):
        build_networks("resnet", (3, 4, 4), 2)
    with pytest.raises(ArgumentError, match="`activation` must be one of"):
        build_networks("mlp", (4,), 2, options=cb.NetworkOptions(activation="sigmoid"))
    with pytest.raises(ArgumentError, match="positive"):
        cb.NetworkOptions(width=0)


def test_the_linear_decoder_is_linear():
    encoder, decoder = build_networks("linear", (4, 5), 3)
    z = torch.randn(3, 3)
    zero = decoder(torch.zeros(1, 3))
    torch.testing.assert_close(decoder(2 * z) - zero, 2 * (decoder(z) - zero))
    features = encoder(torch.randn(6, 4, 5))
    assert torch.equal(features[:, 3:], features[:1, 3:].expand(6, 3))
