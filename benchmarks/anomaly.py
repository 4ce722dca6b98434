"""AUROC of `calibrae score`: MNIST test images against the same rotated by 90 degrees, inverted, and against noise.

    python benchmarks/anomaly.py RUN [--images 1000] [--samples 50]

RUN is a run that was trained on MNIST. The area is scikit-learn's, with -log p(x) as the score.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import calibrae as cb
from calibrae.workflows import run_data

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Score, compare, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=50)
    arguments = parser.parse_args()
    digits = run_data(arguments.run).view("test").slice(0, arguments.images).numpy()
    rng = np.random.default_rng(0)
    others = {
        "rotated by 90 degrees": np.rot90(digits, axes=(2, 3)).copy(),
        "inverted": 255 - digits,
        "uniform noise": rng.integers(0, 256, digits.shape, dtype=np.uint8),
        "pixels shuffled": rng.permuted(digits.reshape(len(digits), -1), axis=1).reshape(digits.shape),
    }
    usual = cb.score(arguments.run, digits, split="all", importance_samples=arguments.samples).nll.numpy()
    record: dict[str, float] = {}
    for name, images in others.items():
        odd = cb.score(arguments.run, images, split="all", importance_samples=arguments.samples).nll.numpy()
        labels = np.concatenate([np.zeros(len(usual)), np.ones(len(odd))])
        record[name] = float(roc_auc_score(labels, np.concatenate([usual, odd])))
        print(f"{name:<24} AUROC {record[name]:.4f}  median {np.median(odd):.0f} nats against {np.median(usual):.0f}")
    facts = {"images": arguments.images, "samples": arguments.samples, "date": date.today().isoformat()}
    (RESULTS / "anomaly.json").write_text(json.dumps(facts | {"auroc": record}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
