"""Every network takes every shape and gives it back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, jacfwd, jacrev, jvp, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import calibrae as cb
from calibrae.errors import ArgumentError, ShapeError
from calibrae.networks import Grid, build_networks, resolve_network, set_data_statistics
from calibrae.networks._activation import LeakyReLU
from calibrae.networks._conv import unpatch

sides = st.integers(1, 40)
shapes = st.one_of(
    st.tuples(st.integers(1, 4), sides, sides), st.tuples(st.integers(1, 4), st.integers(1, 600)), st.tuples(sides)
)
small = cb.NetworkOptions(hidden=(8,), width=4)


def round_trip(name, shape, latent_dim=3, batch=2, context_dim=0, features=None, output_shape=None):
    encoder, decoder = build_networks(
        name, shape, latent_dim, features=features, output_shape=output_shape, context_dim=context_dim, options=small
    )
    context = (torch.randn(batch, context_dim),) if context_dim else ()
    found = encoder(torch.randn(batch, *shape), *context)
    assert found.shape == (batch, features or 2 * latent_dim)
    x_hat = decoder(found[:, :latent_dim], *context)
    assert x_hat.shape == (batch, *(output_shape or shape))
    x_hat.square().sum().backward()
    parts = {"encoder": encoder, "decoder": decoder}
    missing = [n for part in parts.values() for n, p in part.named_parameters() if p.grad is None]
    assert [n for n in missing if "constant" not in n] == []
    return encoder, decoder


@given(shapes, st.sampled_from(["auto", "linear", "mlp", "conv"]))
@settings(max_examples=60)
def test_round_trip_over_random_shapes(shape, name):
    if name == "conv" and len(shape) == 1:
        with pytest.raises(ArgumentError, match="network='mlp'"):
            build_networks(name, shape, 3)
        return
    round_trip(name, shape)


@given(shapes, st.sampled_from(["linear", "mlp", "conv"]), st.integers(1, 5), st.integers(3, 9))
@settings(max_examples=30)
def test_round_trip_with_contexts_and_other_features(shape, name, context_dim, features):
    """An encoder for any posterior and a decoder for any likelihood, with a context or without."""
    if name == "conv" and len(shape) == 1:
        return
    doubled = (2 * shape[0], *shape[1:])
    round_trip(name, shape, context_dim=context_dim, features=features, output_shape=doubled)


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


SHAPES = {"linear": [(4, 5), (13,)], "mlp": [(1, 8, 8), (13,)], "conv": [(3, 32, 32), (1, 8, 8), (2, 64), (1, 28, 20)]}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, all_ in SHAPES.items() for shape in all_])
def test_parameters_and_gradients_make_one_vector_and_come_back(name, shape):
    """Fault D5: weights left in channels-last order have no flat view. Before a step and after it."""
    model = cb.build("vae", data_shape=shape, latent_dim=2, network=name, options=small)
    for _ in range(2):
        vector = parameters_to_vector(model.parameters())
        assert vector.numel() == sum(p.numel() for p in model.parameters())
        assert torch.equal(vector, torch.cat([p.flatten() for p in model.parameters()]))
        assert all(p.is_contiguous() for p in model.parameters())
        vector_to_parameters(2.0 * vector, model.parameters())
        assert torch.equal(parameters_to_vector(model.parameters()), 2.0 * vector)
        vector_to_parameters(vector, model.parameters())
        (-model.elbo(torch.rand(3, *shape)).elbo.mean()).backward()
        gradients = parameters_to_vector([p.grad for p in model.parameters()])
        assert torch.isfinite(gradients).all()
        torch.optim.SGD(model.parameters(), lr=1e-3).step()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, at its first jvp
def test_leaky_relu_by_functional_transforms_is_that_of_torch():
    """Fault D7: `grad`, `vmap`, `jvp` and their compositions, on both sides of zero."""
    ours, x = LeakyReLU(0.2), torch.randn(4, 6, dtype=torch.float64)

    def theirs(x):
        return torch.nn.functional.leaky_relu(x, 0.2)

    tangent = torch.randn_like(x)
    for one, other in (
        (jvp(ours, (x,), (tangent,)), jvp(theirs, (x,), (tangent,))),
        (vmap(ours)(x), vmap(theirs)(x)),
        (grad(lambda x: ours(x).square().sum())(x), grad(lambda x: theirs(x).square().sum())(x)),
        (vmap(grad(lambda x: ours(x).square().sum()))(x), vmap(grad(lambda x: theirs(x).square().sum()))(x)),
        (vmap(jacfwd(ours))(x), vmap(jacfwd(theirs))(x)),
        (vmap(jacrev(ours))(x), vmap(jacrev(theirs))(x)),
    ):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=0.0)
    expected = torch.full_like(x, 0.2).masked_fill(x > 0, 1.0)
    torch.testing.assert_close(jvp(ours, (x,), (torch.ones_like(x),))[1], expected)


def test_data_statistics_reach_both_ends_of_a_pair_and_no_other_module():
    mean, std = torch.randn(2, 3), torch.tensor(2.5)
    encoder, decoder = build_networks("mlp", (2, 3), 2, output_shape=(4, 3), options=small)
    shift, scale = torch.randn(4, 3), torch.tensor([1.0, 1.0, 3.0, 3.0])[:, None]
    z, x = torch.randn(5, 2), torch.randn(5, 2, 3)
    features, output = encoder(x), decoder(z)
    set_data_statistics(encoder, decoder, mean=mean, std=std, output=(shift, scale))
    torch.testing.assert_close(encoder(mean + std * x), features)
    torch.testing.assert_close(decoder(z), shift + scale * output)
    set_data_statistics(encoder, decoder, mean=mean, std=std, output=None)
    torch.testing.assert_close(decoder(z), shift + scale * output)
    own = torch.nn.Linear(3, 3)
    before = own.weight.clone()
    set_data_statistics(own, own, mean=mean, std=std, output=(shift, scale))
    assert torch.equal(own.weight, before)
    with pytest.raises(ShapeError, match=r"built for data of shape \(2, 3\); got data of \(3, 2\)"):
        set_data_statistics(encoder, decoder, mean=mean.T, std=std, output=None)


@pytest.mark.parametrize("name", ["linear", "mlp", "conv"])
def test_an_example_does_not_depend_on_the_others(name):
    encoder, decoder = build_networks(name, (2, 12, 9), 3, context_dim=2, options=small)
    x, z, context = torch.randn(4, 2, 12, 9), torch.randn(4, 3), torch.randn(4, 2)
    torch.testing.assert_close(encoder(x[1:2], context[1:2]), encoder(x, context)[1:2])
    torch.testing.assert_close(decoder(z[1:2], context[1:2]), decoder(z, context)[1:2])


def test_an_encoder_says_what_its_second_half_is_only_if_it_is_one():
    assert build_networks("mlp", (4,), 2)[0].spread == "log_std"
    assert build_networks("mlp", (4,), 2, features=5)[0].spread is None


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
    with pytest.raises(ArgumentError, match="`context_dim` not negative"):
        build_networks("mlp", (4,), 2, context_dim=-1)


def test_the_linear_decoder_is_linear():
    encoder, decoder = build_networks("linear", (4, 5), 3)
    z = torch.randn(3, 3)
    zero = decoder(torch.zeros(1, 3))
    torch.testing.assert_close(decoder(2 * z) - zero, 2 * (decoder(z) - zero))
    features = encoder(torch.randn(6, 4, 5))
    assert torch.equal(features[:, 3:], features[:1, 3:].expand(6, 3))
