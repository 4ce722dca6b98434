"""Functions that are made anew for every model are all compiled."""

import pytest
import torch

from calibrae.models import compile_alone

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, when it compiles


def scaled(factor):
    def scale(x, by=1.0):
        return factor * by * x

    return scale


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
