"""How often `diagnose` finds something in sound data: linear Gaussian data, and the linear VAE that is their closed-form optimum.

    python benchmarks/false_alarms.py --draws 1000

Each draw makes new data of one of three sizes, fits probabilistic PCA to their training split, takes the linear VAE whose ELBO is its log p(x), and
diagnoses it on the test split. Printed is the share of draws in which each finding appeared. Findings about the history of a run need one
and are not among them.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np
import torch

import calibrae as cb
from calibrae.data import Data, load_data
from calibrae.evaluation import linear_vae_at_ppca, training_spectrum

SIZES = ((400, 20, 2), (2000, 10, 3), (120, 6, 1))  # examples, dimensions, latents


def sound(seed: int) -> tuple[Data, int]:
    """Data of a linear Gaussian model whose columns have one variance, and their number of latents."""
    n, dim, latents = SIZES[seed % len(SIZES)]
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(latents, dim))
    weight /= np.linalg.norm(weight, axis=0)
    return load_data(rng.normal(size=(n, latents)) @ weight + 0.5 * rng.normal(size=(n, dim))), latents


def found(seed: int) -> list[str]:
    """Codes of the findings on one draw."""
    data, latents = sound(seed)
    ppca = training_spectrum(data, latents).ppca(latents)
    model = linear_vae_at_ppca(ppca, data.spec.data_shape).float()
    return [finding.code for finding in cb.diagnose(model, data, seed=seed)]


def main() -> None:
    """Count the findings of some draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    torch.set_num_threads(1)
    started, counts = time.monotonic(), Counter[str]()
    for seed in range(draws):
        counts.update(found(seed))
    print(f"{draws} sound data sets of {', '.join(map(str, SIZES))} in {time.monotonic() - started:.0f} s")
    for code, count in counts.most_common():
        print(f"{code:<30}{count / draws:.1%}")
    if not counts:
        print("no finding")


if __name__ == "__main__":
    main()
