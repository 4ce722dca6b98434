"""Faster gradients of strided convolutions are those of autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from calibrae.acceleration import _convolutions, _winograd
from calibrae.acceleration._convolutions import StridedConvolution, doubles, fast_gradients, subpixels, windows

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(deadline=None, max_examples=60)
@given(
    kernel=PAIRS,
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    transposed=st.booleans(),
    data=st.data(),
)
def test_gradients_are_those_of_autograd(kernel, stride, padding, transposed, data) -> None:
    """Gradients of any kernel, stride and padding, and of the leftover rows that no window reaches, in float64."""
    extra = tuple(data.draw(st.integers(0, s - 1)) for s in stride) if transposed else (0, 0)
    padding = tuple(min(a, k - 1) for a, k in zip(padding, kernel, strict=True))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    options = {"output_padding": extra} if transposed else {}
    layer = kind(2, 3, kernel, stride, padding, bias=False, **options).double()
    x = torch.randn(
        2, 2, data.draw(st.integers(3, 6)), data.draw(st.integers(3, 6)), dtype=torch.float64
    ).requires_grad_()
    y = layer(x)
    up = torch.randn_like(y)
    expected = torch.autograd.grad(y, [x, layer.weight], up)
    for most in (0, 1 << 24):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_convolutions, "MOST_BYTES", most)
            patch.setattr(_convolutions, "WIDE", 1)
            ours = StridedConvolution.apply(x, layer.weight, layer.stride, layer.padding, extra, transposed)
            torch.testing.assert_close(ours, y, rtol=0, atol=1e-12)
            found = torch.autograd.grad(ours, [x, layer.weight], up)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(
    transposed=st.booleans(),
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    extra=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
def test_nine_products_are_the_gradient_of_autograd(transposed, batch, channels, size, extra) -> None:
    """Gradients of a 4 x 4 kernel with a stride of two, in float64, with and without a row or column that no output sees."""
    torch.manual_seed(0)
    kind, options = (nn.ConvTranspose2d, {"output_padding": extra}) if transposed else (nn.Conv2d, {})
    layer = kind(*channels, 4, 2, 1, bias=False, **options).double()
    side = [2 * n if transposed else 4 * n + more for n, more in zip(size, extra, strict=True)]
    x = torch.randn(batch, channels[0], *side, dtype=torch.float64)
    y = layer(x)
    up = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, layer.weight, up)
    few, many = (x, up) if transposed else (up, x)
    assert _winograd.applies(few, (4, 4), (2, 2), (1, 1))
    tiles = _winograd.differences(many)
    torch.testing.assert_close(_winograd.weight_gradient(few, tiles), expected, rtol=1e-12, atol=1e-12)
    seen = nn.functional.conv2d(many, layer.weight, None, 2, 1)
    shape = (batch, few.shape[2], few.shape[3])
    torch.testing.assert_close(_winograd.convolution(tiles, layer.weight, shape), seen, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("needed", [True, False])
@pytest.mark.parametrize(("height", "taken"), [(8, True), (6, False), (9, True)])
def test_four_by_four_gradients_are_those_of_autograd(
    monkeypatch: pytest.MonkeyPatch, transposed: bool, needed: bool, height: int, taken: bool
) -> None:
    """By nine products where the smaller side is even, by windows where it is not; with and without the input's."""
    monkeypatch.setattr(_convolutions, "WIDE", 1)
    used: list[int] = []
    differences = _winograd.differences
    monkeypatch.setattr(_winograd, "differences", lambda x: (used.append(1), differences(x))[1])
    torch.manual_seed(0)
    layer = (nn.ConvTranspose2d if transposed else nn.Conv2d)(2, 3, 4, 2, 1, bias=False).double()
    rows = height // 2 if transposed else height
    x = torch.randn(2, 2, rows, 4 if transposed else 8, dtype=torch.float64, requires_grad=needed)
    y = layer(x)
    up = torch.randn_like(y)
    wanted = [x, layer.weight] if needed else [layer.weight]
    ours = StridedConvolution.apply(x, layer.weight, layer.stride, layer.padding, (0, 0), transposed)
    torch.testing.assert_close(ours, y, rtol=0, atol=1e-12)
    found, expected = torch.autograd.grad(ours, wanted, up), torch.autograd.grad(y, wanted, up)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert bool(used) == taken


def test_nine_products_in_bf16_are_within_one_percent() -> None:
    torch.manual_seed(0)
    few, many = torch.randn(16, 32, 8, 8).bfloat16(), torch.randn(16, 24, 16, 16).bfloat16()
    exact = _winograd.weight_gradient(few.double(), _winograd.differences(many.double()))
    found = _winograd.weight_gradient(few, _winograd.differences(many))
    assert found.dtype == torch.bfloat16
    assert (found - exact).norm() < 0.01 * exact.norm()
    weight = torch.randn(32, 24, 4, 4).bfloat16()
    exact = nn.functional.conv2d(many.double(), weight.double(), None, 2, 1)
    found = _winograd.convolution(_winograd.differences(many), weight, (16, 8, 8))
    assert found.dtype == torch.bfloat16
    assert (found - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((7, 8), (4, 4), (2, 2), (1, 1)),
        ((8, 8), (3, 3), (2, 2), (1, 1)),
        ((8, 8), (4, 4), (2, 2), (0, 0)),
        ((8, 8), (4, 4), (4, 4), (1, 1)),
    ],
)
def test_what_nine_products_do_not_compute_is_left_to_others(size, kernel, stride, padding) -> None:
    assert not _winograd.applies(torch.zeros(1, 1, *size), kernel, stride, padding)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (3, 1, 1), (6, 2, 2), (8, 4, 2), (9, 3, 3)])
def test_subpixels_are_a_transposed_convolution(kernel: int, stride: int, padding: int) -> None:
    assert doubles(kernel, stride, padding, 0)
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(2, 3, (kernel, 4), (stride, 2), (padding, 1), bias=False).double()
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(subpixels(x, layer.weight, layer.stride, layer.padding), layer(x), rtol=0, atol=1e-12)


def test_windows_are_those_of_unfold() -> None:
    x = torch.randn(2, 3, 6, 5)
    ours = windows(x, (3, 2), (2, 1), (1, 1))  # kernel positions, then channels
    theirs = nn.functional.unfold(x, (3, 2), padding=1, stride=(2, 1))  # channels, then kernel positions
    theirs = theirs.view(2, 3, 6, -1).permute(0, 3, 2, 1).reshape(ours.shape)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Conv2d(3, 3, 2, 2, groups=3),
    )  # fmt: skip


def test_only_plain_strided_convolutions_are_changed_and_only_meanwhile() -> None:
    model = network()
    with fast_gradients(model):
        changed = [name for name, module in model.named_modules() if "forward" in vars(module)]
        again = copy.deepcopy(model)  # as averaging makes one: with methods of its own modules
        assert again[0].forward.__self__ is again[0]
    assert changed == ["0", "4"]
    assert not [module for module in model.modules() if "forward" in vars(module)]


class Halved(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * super().forward(x)


class Centred(nn.Conv2d):
    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Named(nn.Conv2d):
    """Only a name."""


def test_classes_that_compute_something_else_are_left_alone() -> None:
    model = nn.Sequential(*(kind(3, 3, 4, 2, 1) for kind in (Halved, Centred, Named)))
    nn.utils.parametrizations.weight_norm(model[2])
    with fast_gradients(model):
        assert ["forward" in vars(module) for module in model] == [False, False, True]


def test_nothing_changes_but_in_compiled_bf16() -> None:
    model, x = network(), torch.randn(2, 3, 8, 8)
    expected = model(x)
    with fast_gradients(model):
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(model(x).float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, when it compiles
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_in_bf16_they_are_taken_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_convolutions, "WIDE", 1)  # so that nine products are taken too
    model, x = network().to(memory_format=torch.channels_last), torch.randn(4, 3, 16, 16)
    model(x).square().sum().backward()
    exact = {name: p.grad.clone() for name, p in model.named_parameters()}
    taken: list[bool] = []
    pays = _convolutions._pays
    monkeypatch.setattr(_convolutions, "_pays", lambda *given: (taken.append(pays(*given)), pays(*given))[1])
    model.zero_grad()
    with fast_gradients(model), torch.autocast("cpu", torch.bfloat16):
        torch.compile(model, dynamic=False, backend="aot_eager")(x).float().square().sum().backward()
    assert taken == [True, True]
    for name, p in model.named_parameters():
        assert (p.grad - exact[name]).norm() < 0.03 * exact[name].norm(), name
