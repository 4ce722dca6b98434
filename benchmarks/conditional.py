"""Densities given the label: log p(x given y) beside log p(x), and a classifier by Bayes' rule.

    python benchmarks/conditional.py digits [--epochs 100] [--samples 50]
    python benchmarks/conditional.py path/to/mnist --epochs 10

Two runs with the same networks and latents, one with the label as its condition. The difference is on the same test examples; the classifier takes
the label of the largest log p(x given y) + log p(y), with the shares of the training labels.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import calibrae as cb
from calibrae.data import DataOptions, load_data

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Train both, compare, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--latents", type=int, default=16)
    parser.add_argument("--samples", type=int, default=50)
    arguments = parser.parse_args()
    data = load_data(arguments.data, DataOptions(condition="label"))
    shape, labels = data.spec.data_shape, data.labels
    classes = np.unique(labels["train"])
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        runs = {}
        for name, dim in (("p(x)", 0), ("p(x given y)", len(classes))):
            model = cb.build("sigma-vae", data_shape=shape, latent_dim=arguments.latents, context_dim=dim, seed=0)
            options = DataOptions(condition="label" if dim else None)
            runs[name] = cb.fit(
                model, arguments.data, Path(folder) / name.replace(" ", "-"), options=options, epochs=arguments.epochs, quiet=True, pictures=False
            )  # fmt: skip
        usual = {
            name: -cb.score(run, importance_samples=arguments.samples).nll.double().numpy()
            for name, run in runs.items()
        }
        test = runs["p(x given y)"].data.view("test")
        images = test.slice(0, len(test)).numpy()
        shares = np.array([(labels["train"] == c).mean() for c in classes])
        by_class = np.stack(
            [
                -cb.score(
                    runs["p(x given y)"], images, condition=np.full(len(images), c), importance_samples=arguments.samples
                ).nll.double().numpy()
                for c in classes
            ],
            axis=1,
        )  # fmt: skip
    gain = usual["p(x given y)"] - usual["p(x)"]
    found = classes[(by_class + np.log(shares)).argmax(1)]
    top = by_class.max(1, keepdims=True)
    marginal = (top + np.log((shares * np.exp(by_class - top)).sum(1, keepdims=True)))[:, 0]
    record = {
        "data": Path(arguments.data).name, "epochs": arguments.epochs, "latents": arguments.latents, "samples": arguments.samples,
        "log p(x)": float(usual["p(x)"].mean()), "log p(x given y)": float(usual["p(x given y)"].mean()),
        "difference": float(gain.mean()), "standard error": float(gain.std(ddof=1) / len(gain) ** 0.5),
        "log p(x), sum over the labels": float(marginal.mean()),
        "right": float((found == labels["test"]).mean()), "examples": len(gain), "seconds": time.perf_counter() - started, "date": date.today().isoformat(),
    }  # fmt: skip
    for key, value in record.items():
        print(f"{key:<30} {value:.4f}" if isinstance(value, float) else f"{key:<30} {value}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"conditional-{record['data']}.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
