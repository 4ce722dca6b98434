"""Making a step fast: compilation, kernels, memory layout, prefetch, precision. Knows torch, and no VAE."""

from ._accelerated import AcceleratedStep as AcceleratedStep
from ._adamw import adamw_update as adamw_update
from ._compile import AutoCompiled as AutoCompiled
from ._compile import CompileChoice as CompileChoice
from ._compile import compile_alone as compile_alone
from ._convolutions import fast_gradients as fast_gradients
from ._device import find_device as find_device
from ._fused import FusedStep as FusedStep
from ._layout import arrange as arrange
from ._layout import choose_layout as choose_layout
from ._layout import usual_layout_afterwards as usual_layout_afterwards
from ._memory import retain_freed_memory as retain_freed_memory
from ._precision import bf16_gain as bf16_gain
from ._precision import choose_precision as choose_precision
from ._prefetch import prefetch as prefetch
from ._protocol import Autocast as Autocast
from ._protocol import Compiled as Compiled
from ._protocol import LossOfPiece as LossOfPiece
from ._protocol import TrainingStep as TrainingStep
from ._protocol import undisturbed as undisturbed
from ._threads import choose_threads as choose_threads
from ._threads import threads as threads
from ._timing import time_interleaved as time_interleaved
from ._trial import StepTrial as StepTrial
from ._trial import choose_compile as choose_compile
from ._trial import compile_as_before as compile_as_before
