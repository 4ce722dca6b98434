"""Functions that are made anew for every model are all compiled, and those that are called often only where it pays."""

import subprocess
import sys

import pytest
import torch

from calibrae.acceleration import AutoCompiled, _compile, compile_alone

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, when it compiles


def scaled(factor):
    def scale(x, by=1.0):
        return factor * by * x

    return scale


@pytest.mark.skipif(
    not hasattr(torch._dynamo.config, "recompile_limit"),
    reason="older versions of torch have another name for the limit",
)
def test_the_ninth_function_is_compiled_like_the_first():
    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for factor in (2.0, 3.0):
            assert compile_alone(scaled(factor), torch.device("cpu"), backend="eager")(torch.ones(2)).tolist() == [
                factor,
                factor,
            ]
        plain = [torch.compile(scaled(factor), backend="eager", dynamic=False) for factor in (2.0, 3.0)]
        plain[0](torch.ones(2))
        with pytest.raises(Exception, match="limit"):  # the compiler's own behaviour, that this is there for
            plain[1](torch.ones(2))


def timed(monkeypatch, eager, compiled):
    """Seconds of a call, by decree, and a compiler that returns what it is given."""
    monkeypatch.setattr(AutoCompiled, "_seconds", lambda _, functions, *__: [eager, compiled][: len(functions)])
    monkeypatch.setattr(_compile, "compile_alone", lambda function, _: lambda *x: function(*x))


def double(x):
    return (2.0 * x,)


@pytest.mark.parametrize(
    ("choice", "calls", "eager", "compiled", "status"),
    [
        ("off", 1e6, 1.0, 0.1, "not compiled (as asked)"),
        ("auto", 0, 1.0, 0.1, "not compiled (too short to repay it)"),
        ("auto", 40, 1.0, 0.1, "not compiled (too short to repay it)"),  # 30 % of 40 s are not 13 s
        ("auto", 100, 1.0, 0.1, "compiled (measured: 100 ms instead of 1e+03)"),
        ("auto", 100, 1.0, 0.99, "not compiled (measured: 990 ms instead of 1e+03)"),
        ("on", 1, 1.0, 2.0, "compiled (measured: 2e+03 ms instead of 1e+03)"),
    ],
)
def test_it_is_compiled_where_that_pays(monkeypatch, choice, calls, eager, compiled, status):
    timed(monkeypatch, eager, compiled)
    function = AutoCompiled(double, torch.device("cpu"), calls, choice)
    for _ in range(2):
        assert function(torch.ones(3))[0].tolist() == [2.0] * 3
    assert function.status == status
    assert (function._compiled is not None) == status.startswith("compiled")


def test_calls_of_other_shapes_run_as_they_are(monkeypatch):
    timed(monkeypatch, 1.0, 0.1)
    function = AutoCompiled(double, torch.device("cpu"), 1000)
    function(torch.ones(3))
    function._compiled = lambda x: (x + 100.0,)
    assert function(torch.ones(3))[0].tolist() == [101.0] * 3
    assert function(torch.ones(2))[0].tolist() == [2.0] * 2


SUMMARY = """
import torch, calibrae as cb
from calibrae.acceleration import AutoCompiled, _compile
from calibrae.models import Scorer, batches_of, summarise
torch.manual_seed(0)
model = cb.build("sigma-vae", data_shape=(1, 4, 4), latent_dim=2, network="mlp", sigma=0.3).eval()
x, noise = torch.rand(20, 1, 4, 4), torch.randn(20, 2)
plain = summarise(model, batches_of(x, batch_size=8), lambda index: noise[index])
_compile.COMPILE_SECONDS = 0.0
AutoCompiled._seconds = lambda self, functions, *given: [1.0, 0.1][: len(functions)]
scorer = Scorer(model, examples=20, batch_size=8)
found = summarise(model, batches_of(x, batch_size=8), lambda index: noise[index], scorer=scorer)
print(scorer._score.status)
print(float((found.elbos - plain.elbos).abs().max()), abs(found.mse / plain.mse - 1.0))
"""


@pytest.mark.slow
def test_a_compiled_summary_is_the_same():
    """In a process of its own, whose compiler has seen nothing else."""
    out = subprocess.run([sys.executable, "-c", SUMMARY], capture_output=True, text=True, check=True).stdout
    status, differences = out.splitlines()
    assert status.startswith("compiled")
    elbo, mse = map(float, differences.split())
    assert elbo < 1e-4
    assert mse < 1e-5
