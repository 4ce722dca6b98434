"""Samples a second of the importance-weighted bound, ours beside Pythae's `get_nll`, on the network of Burda et al.

    python benchmarks/importance.py path/to/mnist [--rivals .venv-bench/bin/python] [--images 10000] [--samples 5000]

784-200-200-50, tanh, Bernoulli, with random weights: the cost does not depend on them. Pythae loops over images and takes at most a batch of samples
at a time. Both are timed on the same images with the same number of samples, in turns, as a user would call them: a compiler's seconds
count. Then ours is timed on all, where they count less. The share of the machine is counted in the decoder's matrix products alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from throughput.machine import peak
from torch import Tensor, nn

import calibrae as cb
from calibrae.data import load_data
from calibrae.evaluation import importance_weighted

RESULTS = Path(__file__).parent / "results"
PYTHAE_VERSION = "0.1.2"
WIDTHS = (784, 200, 200, 50)
FLOP = 2 * (50 * 200 + 200 * 200 + 200 * 784)

PYTHAE = """
import sys, time
import numpy as np, torch
from torch import nn
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
images, samples, threads = np.load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 100))
    def forward(self, x):
        mu, log_var = self.layers(x).chunk(2, 1)
        return ModelOutput(embedding=mu, log_covariance=log_var)
class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784), nn.Sigmoid())
    def forward(self, z):
        return ModelOutput(reconstruction=self.layers(z).reshape(-1, 1, 28, 28))
model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=50, reconstruction_loss="bce"), encoder=Encoder(), decoder=Decoder()).eval()
x = torch.from_numpy(images)
with torch.no_grad():
    model.get_nll(x[:2], n_samples=samples, batch_size=100)
    started = time.perf_counter()
    model.get_nll(x, n_samples=samples, batch_size=100)
print(time.perf_counter() - started)
"""


def network() -> cb.VAE:
    """The network of Burda et al. (2016) with one stochastic layer."""
    torch.manual_seed(0)
    data, wide, mid, latent = WIDTHS
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(data, wide), nn.Tanh(), nn.Linear(wide, mid), nn.Tanh(), nn.Linear(mid, 2 * latent)
    )
    decoder = nn.Sequential(
        nn.Linear(latent, mid), nn.Tanh(), nn.Linear(mid, wide), nn.Tanh(), nn.Linear(wide, data),
        nn.Unflatten(1, (1, 28, 28)),
    )  # fmt: skip
    return cb.VAE(
        encoder, decoder, cb.BernoulliLikelihood(), cb.StandardNormalPrior(latent), posterior=cb.GaussianPosterior("log_std"),
    ).eval()  # fmt: skip


def ours(model: cb.VAE, x: Tensor, samples: int) -> tuple[float, str]:
    """Seconds, a compiler's included, and whether it was used."""
    started = time.perf_counter()
    found = importance_weighted(model, [cb.Batch(x)], samples, examples=len(x))
    return time.perf_counter() - started, found.compilation


def theirs(python: str, images: Path, samples: int) -> float:
    """Seconds of Pythae, without its start."""
    command = [python, "-c", PYTHAE, str(images), str(samples), str(torch.get_num_threads())]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(out.split()[-1])


def error_against_float64(model: cb.VAE, x: Tensor, samples: int) -> float:
    """Largest difference of the bound from the same samples in float64, nats."""
    found = importance_weighted(model, [cb.Batch(x)], samples).log_likelihood
    exact = importance_weighted(model.double(), [cb.Batch(x.double())], samples).log_likelihood
    model.float()
    return float((found - exact).abs().max())


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--rivals", default=None, help="Python of an environment with Pythae.")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--few", type=int, default=2000, help="Images that both are timed on.")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    data = load_data(arguments.data, cb.DataOptions(binarise=True))
    x = torch.cat([batch.x for batch in data.batches("test", 1000)])[: arguments.images]
    model = network()
    record: dict[str, object] = {
        "date": date.today().isoformat(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    theirs_rate: float | None = None
    if arguments.rivals:
        few, samples = x[: arguments.few], arguments.samples
        with tempfile.TemporaryDirectory() as folder:
            images = Path(folder) / "images.npy"
            np.save(images, few.numpy())
            pairs = [
                (ours(model, few, samples)[0], theirs(arguments.rivals, images, samples))
                for _ in range(arguments.repeats)
            ]
        rates = [len(few) * samples / statistics.median(seconds) for seconds in zip(*pairs, strict=True)]
        print(
            f"samples a second, {len(few)} images x {samples}: calibrae {rates[0]:,.0f}; Pythae {PYTHAE_VERSION} {rates[1]:,.0f}; ratio {rates[0] / rates[1]:.1f}"
        )
        theirs_rate = rates[1]
        record["beside_pythae"] = {
            "pythae_version": PYTHAE_VERSION,
            "images": len(few),
            "samples": samples,
            "calibrae": rates[0],
            "pythae": rates[1],
            "ratio": rates[0] / rates[1],
        }
    error = error_against_float64(model, x[:100], 1000)
    print(f"largest difference from float64 on 100 images, 1000 samples: {error:.1e} nats")
    before = peak()
    seconds, compilation = ours(model, x, arguments.samples)
    after = peak()
    rate = len(x) * arguments.samples / seconds
    best = (before + after) / 2
    print(
        f"{len(x):,} images x {arguments.samples}: {seconds:.0f} s, {rate:,.0f} samples a second, {rate * FLOP / 1e9:.0f} GFLOP/s, "
        f"{rate * FLOP / 1e9 / best:.0%} of the matrix product's {best:.0f}; {compilation}"
    )
    if theirs_rate:
        print(
            f"{rate / theirs_rate:.1f} times Pythae's samples a second, whose cost an image does not depend on how many there are"
        )
    record |= {
        "images": len(x), "samples": arguments.samples, "seconds": seconds, "samples_per_second": rate, "peak_gflops": best,
        "share_of_peak": rate * FLOP / 1e9 / best, "ratio_to_pythae": theirs_rate and rate / theirs_rate, "float64_error": error, "compilation": compilation,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "importance.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
