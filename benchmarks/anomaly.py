"""AUROC of `calibrae score`: MNIST test images against the same rotated, inverted, shuffled, against noise and blank pictures.

    python benchmarks/anomaly.py RUN [--images 1000] [--samples 50]

RUN is a run that was trained on MNIST. The area is scikit-learn's, with four scores: -log p(x); its distance from the usual on either side, as
the alarm takes it; and both less the compressed length (`--corrected`).
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import calibrae as cb
from calibrae.evaluation import Typical
from calibrae.workflows import run_data

RESULTS = Path(__file__).parent / "results"


def scores_of(arguments: argparse.Namespace, images: np.ndarray) -> dict[str, np.ndarray]:
    """-log p(x) of some images, and that less their compressed length."""
    found = cb.score(arguments.run, images, split="all", importance_samples=arguments.samples)
    return {"-log p": found.nll.double().numpy(), "corrected": found.corrected.numpy()}


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
        "blank, one grey each": np.broadcast_to(
            rng.integers(0, 256, (len(digits), 1, 1, 1), dtype=np.uint8), digits.shape
        ).copy(),
        "uniform noise": rng.integers(0, 256, digits.shape, dtype=np.uint8),
        "pixels shuffled": rng.permuted(digits.reshape(len(digits), -1), axis=1).reshape(digits.shape),
    }
    held_out = run_data(arguments.run).view("validation").slice(0, arguments.images).numpy()
    typical = scores_of(arguments, held_out)
    usual = scores_of(arguments, digits)
    record: dict[str, dict[str, float]] = {}
    for name, images in others.items():
        odd = scores_of(arguments, images)
        labels = np.concatenate([np.zeros(len(digits)), np.ones(len(images))])
        record[name] = {}
        for kind, values in usual.items():
            middle = Typical.of(torch.from_numpy(typical[kind]))
            both = np.concatenate([values, odd[kind]])
            record[name][kind] = float(roc_auc_score(labels, both))
            record[name][f"{kind}, two-sided"] = float(
                roc_auc_score(labels, middle.strangeness(torch.from_numpy(both)).numpy())
            )
        print(f"{name:<24}", "  ".join(f"{kind} {area:.4f}" for kind, area in record[name].items()), flush=True)
    facts = {"images": arguments.images, "samples": arguments.samples, "date": date.today().isoformat()}
    (RESULTS / "anomaly.json").write_text(json.dumps(facts | {"auroc": record}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
