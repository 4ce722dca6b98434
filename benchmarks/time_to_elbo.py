"""Seconds of training to a given test ELBO: `calibrae train` with its defaults beside the released sigma-VAE recipe.

    python benchmarks/time_to_elbo.py path/to/cifar10 [--target 2676.1] [--repeats 3] [--epochs 2]

The rival is the recipe of Rybkin et al. 2021 written anew: convolutions 3x3 s1, 4x4 s2, 5x5 s2 of 32, 64, 128 channels and their mirror
image, ReLU, sigmoid means, an optimal sigma a batch, Adam 1e-3, batches of 128, float32. It gets the fastest loop that we know (images in
memory, one gather a batch). Every `--every` steps its clock stops, its sigma is fixed on training images, and its ELBO is taken
on all test images; its time is that of the first ELBO that reaches the target.

Ours is charged with all of `fit`, from the call to the saved model: statistics, choice of precision, validation, checkpoints, calibration.
It plans `--epochs` epochs; if they end below the target, the run counts as failed. Contenders take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import calibrae as cb
from calibrae.data import Data, load_data

RESULTS = Path(__file__).parent / "results"
LATENTS, BATCH, RATE = 50, 128, 1e-3
CALIBRATION = 4096


class Released(nn.Module):
    """The released network: `[B, C, H, W]` to a mean and a log std, and back."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        coarse, widths = -(-side // 4), (32, 64, 128)
        size = widths[2] * coarse**2
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, 1, 1), nn.ReLU(),
            nn.Conv2d(widths[0], widths[1], 4, 2, 1), nn.ReLU(),
            nn.Conv2d(widths[1], widths[2], 5, 2, 2), nn.ReLU(),
            nn.Flatten(), nn.Linear(size, 2 * LATENTS),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(LATENTS, size), nn.Unflatten(1, (widths[2], coarse, coarse)), nn.ReLU(),
            nn.ConvTranspose2d(widths[2], widths[1], 6, 2, 2), nn.ReLU(),
            nn.ConvTranspose2d(widths[1], widths[0], 6, 2, 2), nn.ReLU(),
            nn.ConvTranspose2d(widths[0], channels, 3, 1, 1), nn.Sigmoid(),
        )  # fmt: skip


def test_elbo(model: cb.VAE, data: Data) -> float:
    """Test ELBO with sigma fixed on training images; the model is left as it was."""
    cb.fix_scale(model, data.batches("train", 512, limit=CALIBRATION))
    elbo = cb.evaluation.evaluate_model(model, data, baseline="unknown").elbo_nats
    model.train()  # which forgets the scale
    assert elbo is not None
    return elbo


def released(data: Data, target: float, every: int, limit: float, seed: int) -> dict[str, Any]:
    """Seconds of the released recipe until its test ELBO reaches the target, and the ELBO at each look."""
    torch.manual_seed(seed)
    channels, side, _ = data.spec.data_shape
    net = Released(channels, side)
    prior, posterior = cb.StandardNormalPrior(LATENTS), cb.GaussianPosterior("log_std")
    model = cb.VAE(net.encoder, net.decoder, cb.GaussianLikelihood("optimal"), prior, posterior=posterior)
    model.initialise_from_data(data.spec, torch.zeros(data.spec.data_shape), torch.ones(()))
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    stored = data.view("train").slice(0, len(data.view("train")))
    seconds, step, looks = 0.0, 0, []
    while seconds < limit:
        for index in torch.randperm(len(stored)).split(BATCH):
            started = time.perf_counter()
            _descend(model, optimiser, stored[index])
            seconds += time.perf_counter() - started
            step += 1
            if step % every == 0:
                looks.append((round(seconds, 1), round(test_elbo(model, data), 1)))
                print(f"  released recipe: {seconds:.0f} s, step {step}, test ELBO {looks[-1][1]:.1f}", flush=True)
                if looks[-1][1] >= target:
                    return {"seconds": seconds, "steps": step, "elbo": looks[-1][1], "looks": looks}
    return {"seconds": None, "steps": step, "elbo": looks[-1][1], "looks": looks}


def _descend(model: cb.VAE, optimiser: torch.optim.Optimizer, stored: Tensor) -> None:
    x = stored.float().add_(torch.rand(stored.shape)).div_(256.0)
    optimiser.zero_grad(set_to_none=True)
    (-model.elbo(x).elbo.mean()).backward()
    optimiser.step()


def ours(data: Data, target: float, epochs: int, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds of all of `fit`, and what it reached."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        started = time.perf_counter()
        model = cb.build("sigma-vae", data_shape=data.spec.data_shape, latent_dim=LATENTS)
        run = cb.fit(model, data, f"{folder}/run", epochs=epochs, seed=seed, quiet=True, pictures=False, **settings)
        seconds = time.perf_counter() - started
        elbo = cb.evaluation.evaluate_model(run.model, data, baseline="unknown").elbo_nats
    assert elbo is not None
    print(f"  calibrae: {seconds:.0f} s for {epochs} epochs, test ELBO {elbo:.1f}", flush=True)
    return {"seconds": seconds if elbo >= target else None, "elbo": elbo, "epochs": epochs}


def main() -> None:
    """Take turns, print the ratio, keep the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument(
        "--target", type=float, default=2676.1, help="Nats; by default PPCA's on CIFAR-10 with 50 latents."
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--every", type=int, default=100, help="Steps between looks at the rival.")
    parser.add_argument("--limit", type=float, default=1800.0, help="Seconds after which the rival is given up.")
    parser.add_argument(
        "--setting", action="append", default=[], help="NAME=NUMBER for `fit`, to try other settings than the defaults."
    )
    arguments = parser.parse_args()
    settings = {
        name: float(value) if "." in value or "e" in value else int(value)
        for name, value in (s.split("=") for s in arguments.setting)
    }
    data = load_data(arguments.data)
    passes: dict[str, list[dict[str, Any]]] = {"calibrae": [], "released": []}
    for seed in range(arguments.repeats):
        passes["calibrae"].append(ours(data, arguments.target, arguments.epochs, seed, settings))
        passes["released"].append(released(data, arguments.target, arguments.every, arguments.limit, seed))
    times = {name: [p["seconds"] for p in found if p["seconds"] is not None] for name, found in passes.items()}
    medians = {name: statistics.median(found) if found else None for name, found in times.items()}
    for name, found in times.items():
        print(
            f"{name}: {', '.join(f'{t:.0f}' for t in found)} s to {arguments.target} nats ({len(found)} of {arguments.repeats} runs)"
        )
    ours_at, theirs_at = medians["calibrae"], medians["released"]
    ratio = ours_at / theirs_at if ours_at is not None and theirs_at is not None else None
    print("ratio", "none" if ratio is None else f"{ratio:.3f}")
    record = {
        "target": arguments.target, "settings": settings, "passes": passes, "ratio": ratio, "date": date.today().isoformat(),
        "torch": torch.__version__, "threads": torch.get_num_threads(),
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "time-to-elbo.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
