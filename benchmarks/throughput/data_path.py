"""What the data cost of a training step: gather, noise and, unless the step does it in passing, conversion of a batch.

    python benchmarks/throughput/data_path.py path/to/data [--batch-size 128] [--repeats 5]

The path is a folder with mnist/ and cifar10/. A pass over the batches alone and an epoch of training of the networks of
`networks.py` take turns; medians are kept. Both are as `fit` runs them: the same batches, the same generator.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

import calibrae as cb
from calibrae.data import Data, byte_source, in_batches, load_data
from networks import LATENTS, build

RESULTS = Path(__file__).parent.parent / "results"
CASES = {"mlp": ("mnist", 12_800), "conv": ("cifar10", 1_280)}
SETTINGS = (("fp32", "off"), ("bf16", "on"))  # precision, compile


def batches_alone(data: Data, batch_size: int) -> float:
    """Seconds a batch of a pass that does nothing with them, in random order."""
    order = np.random.default_rng(0).permutation(len(data.view("train")))
    generator = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    count = sum(1 for _ in data.stored_batches(in_batches(order, batch_size), generator, byte_source(0)))
    return (time.perf_counter() - started) / count


def training(network: str, images: np.ndarray, batch_size: int, precision: str, compile_: str) -> float:
    """Seconds a step of an epoch, by the trainer's own clock."""
    encoder, decoder = build(network)
    prior, posterior = cb.StandardNormalPrior(LATENTS[network]), cb.GaussianPosterior("log_std")
    model = cb.VAE(encoder, decoder, cb.GaussianLikelihood(1.0), prior, posterior=posterior)
    few = images[:256]
    with tempfile.TemporaryDirectory() as folder:
        run = cb.fit(
            model, {"train": images, "validation": few, "test": few}, Path(folder) / "run", epochs=1, batch_size=batch_size,
            lr=1e-3, grad_clip_norm=0.0, quiet=True, pictures=False, precision=precision, compile=compile_,
        )  # fmt: skip
    return float(run.history[-1]["seconds"]) / (len(images) // batch_size)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rows = {}
    for network, (name, count) in CASES.items():
        view = load_data(str(arguments.data / name)).view("train")
        images = view.slice(0, count).numpy()
        data = load_data({"train": images, "validation": images[:256], "test": images[:256]})
        for precision, compile_ in SETTINGS:
            alone, step = [], []
            for _ in range(arguments.repeats):
                alone.append(batches_alone(data, arguments.batch_size))
                step.append(training(network, images, arguments.batch_size, precision, compile_))
            batch, whole = statistics.median(alone), statistics.median(step)
            key = f"{network} {precision} compile {compile_}"
            rows[key] = {"batch_ms": 1e3 * batch, "step_ms": 1e3 * whole, "share": batch / whole}
            print(f"{key}: {1e3 * batch:.3f} of {1e3 * whole:.2f} ms a step, {batch / whole:.2%}", flush=True)
    record = {
        "batch_size": arguments.batch_size,
        "rows": rows,
        "date": date.today().isoformat(),
        "torch": torch.__version__,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "data-path.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
