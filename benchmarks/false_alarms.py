"""How often `diagnose` finds something in sound data: linear Gaussian data, and the linear VAE that is their closed-form optimum.

    python benchmarks/false_alarms.py --draws 1000
    python benchmarks/false_alarms.py --draws 300 --trained

Each draw makes new data of one of three sizes, fits probabilistic PCA to their training split, takes the linear VAE whose ELBO is its log p(x), and
diagnoses it on the test split. With `--trained`, the linear VAE is trained from random weights with the defaults, so that findings about the
history of a run are among them (some ten seconds a draw). Printed is the share of draws in which each finding appeared; where it appeared in none
of 300, it is below 1 % at 95 % confidence.
"""

from __future__ import annotations

import argparse
import tempfile
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


def found_after_training(seed: int) -> list[str]:
    """Codes of the findings on one draw, of a run with the defaults."""
    data, latents = sound(seed)
    model = cb.build(spec=data.spec, latent_dim=latents, network="linear", seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = cb.fit(
            model, data, folder + "/run", seed=seed, quiet=True, pictures=False, compile="off", precision="fp32"
        )
        return [finding.code for finding in run.diagnose(seed=seed)]


def main() -> None:
    """Count the findings of some draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--trained", action="store_true", help="models that were trained, with their histories")
    asked = parser.parse_args()
    draws = asked.draws
    torch.set_num_threads(1)
    started, counts = time.monotonic(), Counter[str]()
    for seed in range(draws):
        counts.update(found_after_training(seed) if asked.trained else found(seed))
    print(f"{draws} sound data sets of {', '.join(map(str, SIZES))} in {time.monotonic() - started:.0f} s")
    for code, count in counts.most_common():
        print(f"{code:<30}{count / draws:.1%}")
    if not counts:
        print("no finding")


if __name__ == "__main__":
    main()
