"""A linear VAE against the closed form: exact test ELBO and sigma after training, over seeds.

python benchmarks/linear_vs_ppca.py digits --latent-dims 2,10 --epochs 300
python benchmarks/linear_vs_ppca.py path/to/mnist --latent-dims 10,50 --epochs 100
python benchmarks/linear_vs_ppca.py path/to/cifar10 --few 1400 --latent-dims 5,20 --seeds 3    # grey, 28 x 20, all settings the defaults
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

import calibrae as cb
from calibrae.data import Data, load_data
from calibrae.evaluation import exact_linear_elbo, training_spectrum
from calibrae.workflows import seeded_build


def few(data: Data, count: int) -> Data:
    """So many of the training pictures, grey, the middle 28 x 20 pixels of each."""
    view = data.view("train")
    rows = np.random.default_rng(0).permutation(len(view))[:count]
    pictures = view.gather(rows).float().mean(1, keepdim=True).round().to(torch.uint8)
    top, left = (pictures.shape[2] - 28) // 2, (pictures.shape[3] - 20) // 2
    return load_data(pictures[:, :, top : top + 28, left : left + 20].numpy())


def compare(
    data: Data, latent_dim: int, epochs: int | None, seed: int, folder: Path
) -> tuple[float, float, float, float]:
    """Exact ELBO and closed-form log-likelihood of the test split, learned and closed-form sigma."""
    shape = data.spec.data_shape
    model = seeded_build(
        seed, lambda: cb.build("sigma-vae", data_shape=shape, latent_dim=latent_dim, network="linear", sigma="optimal")
    )
    settings = {} if epochs is None else {"epochs": epochs, "lr": 1e-2, "batch_size": 128, "weight_decay": 0.0}
    cb.fit(model, data, folder, seed=seed, quiet=True, pictures=False, **settings)
    ppca = training_spectrum(data, latent_dim).ppca(latent_dim)
    x = torch.cat([batch.x for batch in data.batches("test", 1024)])
    baseline = cb.functional.ppca_log_likelihood(ppca, x.flatten(1).double()).mean().item()
    sigma = model.likelihood.scale.std()
    return exact_linear_elbo(model, x).double().mean().item(), baseline, sigma, ppca.sigma


def main() -> None:
    """Print a row per latent size and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--latent-dims", default="2,10")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--few", type=int, help="so many pictures, and the defaults")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    data = load_data(arguments.data)
    if arguments.few:
        data, arguments.epochs = few(data, arguments.few), None
    print(
        "|  d | seed | ELBO, nats | PPCA, nats | short by | sigma | PPCA's | ratio |\n|---|---|---|---|---|---|---|---|"
    )
    for latent_dim in map(int, arguments.latent_dims.split(",")):
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                elbo, baseline, sigma, exact = compare(data, latent_dim, arguments.epochs, seed, Path(folder) / "run")
            print(
                f"| {latent_dim} | {seed} | {elbo:.3f} | {baseline:.3f} | {baseline - elbo:.3f} | {sigma:.5f} | {exact:.5f} | "
                f"{sigma / exact:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
