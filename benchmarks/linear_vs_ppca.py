"""A linear VAE against the closed form: exact test ELBO and sigma after training, over seeds.

python benchmarks/linear_vs_ppca.py digits --latent-dims 2,10 --epochs 300
python benchmarks/linear_vs_ppca.py path/to/mnist --latent-dims 10,50 --epochs 100
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import calibrae as cb
from calibrae.data import Data, load_data
from calibrae.evaluation import exact_linear_elbo, training_spectrum
from calibrae.workflows import seeded_build


def compare(data: Data, latent_dim: int, epochs: int, seed: int, folder: Path) -> tuple[float, float, float, float]:
    """Exact ELBO and closed-form log-likelihood of the test split, learned and closed-form sigma."""
    shape = data.spec.data_shape
    model = seeded_build(
        seed, lambda: cb.build("sigma-vae", data_shape=shape, latent_dim=latent_dim, network="linear", sigma="optimal")
    )
    settings = {"lr": 1e-2, "batch_size": 128, "weight_decay": 0.0, "seed": seed}
    cb.fit(model, data, folder, epochs=epochs, quiet=True, pictures=False, **settings)
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
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    data = load_data(arguments.data)
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
