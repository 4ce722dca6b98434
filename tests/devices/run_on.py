"""Train on a device, assess on it what was trained on the CPU, and print the numbers: `python run_on.py cpu|cuda|second FOLDER`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning_fabric
import numpy as np
import torch
from torch import nn

import calibrae as cb
from calibrae.acceleration import _fused
from calibrae.training import EagerStep
from calibrae.workflows import draw_scores, encode, interpolate, reconstruct, run_data, sample, traverse

SHAPE, LATENTS = (1, 8, 8), 3
PARTS: dict[str, dict[str, Any]] = {
    "mixture": {"prior": "mixture:components=3"},
    "importance weighted": {"objective": "iwae:samples=3"},
    "laplace": {"likelihood": "laplace", "sigma": "learned"},
    "per example": {"likelihood": "gaussian-per-example"},
}
QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 192,
    "precision": "fp32",
    "compile": "off",
    "quiet": True,
    "pictures": False,
}


def preset(**parts: Any) -> cb.VAE:
    torch.manual_seed(0)
    options = cb.NetworkOptions(hidden=(32,))
    return cb.build("sigma-vae", data_shape=SHAPE, latent_dim=LATENTS, options=options, **parts)


def own(likelihood: Any) -> cb.VAE:
    """Convolutions that are not a preset's, so that their layout is chosen by a trial."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2 * LATENTS))
    decoder = nn.Sequential(nn.Linear(LATENTS, 64), nn.Sigmoid(), nn.Unflatten(1, SHAPE))
    prior, posterior = cb.StandardNormalPrior(LATENTS), cb.GaussianPosterior("log_std")
    return cb.VAE(encoder, decoder, likelihood, prior, posterior=posterior)


def trained(model: cb.VAE, folder: Path, device: str, **options: Any) -> list[dict[str, float]]:
    """The history of a short run, without its clock."""
    run = cb.fit(model, "digits", folder, device=device, **QUICK | options)
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in run.history]


def training(folder: Path, device: str) -> dict[str, Any]:
    """Runs that take every way through a step."""
    found: dict[str, Any] = {}
    for sigma, shared in ((0.1, "all"), ("learned", "channel"), ("optimal", "element")):
        model = preset(sigma=sigma, sigma_shared=shared)
        name = f"sigma {sigma}, {shared}"
        found[name] = trained(model, folder / name, device, micro_batches=3, ema_decay=0.9, horizontal_flip=True)
    found["own networks"] = trained(own(cb.GaussianLikelihood("optimal")), folder / "own", device)
    with patch.object(_fused, "compile_alone", lambda function, **_: function):
        found["fused step"] = trained(preset(sigma="learned"), folder / "fused", device, compile="on")
    for name, parts in PARTS.items():
        found[name] = trained(preset(**parts), folder / name, device)
    labels = np.arange(1797) % 3
    conditional = preset(context_dim=3, prior="conditional-gaussian")
    found["condition"] = trained(conditional, folder / "condition", device, condition=labels)
    found["plain steps"] = trained(preset(), folder / "plain", device, acceleration="off")
    found["cut and resumed"] = cut_and_resumed(folder / "cut", device)
    main = folder / "main"
    found["first"] = trained(preset(), main, device, pictures=True)
    found["resumed"] = trained(preset(), main, device, epochs=3, resume=True)
    return found


def cut_and_resumed(folder: Path, device: str) -> list[dict[str, float]]:
    """The history of a run that a Ctrl-C ended in the middle of its first epoch, and that went on."""
    step, taken = EagerStep.__call__, []

    def interrupted(self: EagerStep, *batch: Any) -> Any:
        taken.append(1)
        is_made_ahead = any(thread.name.startswith("calibrae-batches") for thread in threading.enumerate())
        assert is_made_ahead == (device != "cpu")
        if len(taken) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *batch)

    with patch.object(EagerStep, "__call__", interrupted), suppress(KeyboardInterrupt):
        trained(preset(), folder, device, horizontal_flip=True)
        raise AssertionError("the run was not interrupted")
    return trained(preset(), folder, device, horizontal_flip=True, resume=True)


def assessment(path: Path, device: str) -> dict[str, Any]:
    """All that is computed of a trained model."""
    model, data = cb.load(path, device=device), run_data(path)
    batch = next(iter(data.batches("test", 16)))
    scores = cb.score(path, device=device, limit=8, importance_samples=5)
    draw_scores(scores, path, path / "scores.png")
    drawn = {
        "sample": sample(model, 4, noise=True),
        "encode": encode(model, data, "test", what="sample"),
        "reconstruct": reconstruct(model, batch.x),
        "interpolate": interpolate(model, batch.rows(slice(2)), 3),
        "traverse": traverse(model, data, n=2, steps=3)[0],
        "score": scores.nll,
    }
    assert all(values.device.type == "cpu" for values in drawn.values()), "what is drawn or written must be on the CPU"
    return {name: values.tolist() for name, values in drawn.items()} | {
        "evaluate": cb.evaluate(path, device=device, importance_samples=20, limit=32).to_dict(),
        "full": cb.evaluate_full(path, device=device, limit=32, annealed_examples=4, temperatures=4).to_dict(),
        "diagnose": [finding.message for finding in cb.diagnose(path, device=device)],
        "fix scale": float(cb.fix_scale(model, batch.x)),
    }


def moved(folder: Path, device: str) -> dict[str, Any]:
    """A run is assessed where its model is, and where it is asked to be."""
    run = cb.fit(preset(), "digits", folder, device=device, **QUICK)
    elbos = []
    for asked, place in (("auto", device), ("cpu", "cpu"), ("auto", "cpu"), (device, device)):
        elbos.append(cb.evaluate(run, device=asked, limit=16).elbo_nats)
        assert run.model.device.type == place, (asked, place, run.model.device)
    model = preset().to(device)
    elbos.append(cb.evaluate(folder, model=model, limit=16).elbo_nats)
    assert model.device.type == device
    return {"moved": elbos}


@contextmanager
def second_device() -> Iterator[str]:
    """Fabric, torch's loading of files and calibrae know the second device meanwhile."""
    import second_device as second
    from lightning_fabric.accelerators import CPUAccelerator
    from lightning_fabric.strategies import SingleDeviceStrategy

    class Accelerator(CPUAccelerator):
        def setup_device(self, device: torch.device) -> None:
            """Nothing to prepare."""

    def fabric(*, precision: Any = "32-true", **_: Any) -> Any:
        strategy = SingleDeviceStrategy(device=second.DEVICE, accelerator=Accelerator())
        return real(strategy=strategy, precision=precision)

    real = lightning_fabric.Fabric
    with (
        patch.object(lightning_fabric, "Fabric", fabric),
        patch("calibrae.acceleration._device.WITHOUT_DOUBLE", {second.NAME}),
    ):
        yield second.NAME


@contextmanager
def usual_device(name: str) -> Iterator[str]:
    """One that Fabric knows."""
    yield name


def main(name: str, folder: Path) -> None:
    """Print all numbers as JSON."""
    with second_device() if name == "second" else usual_device(name) as device:
        found = {"training": training(folder / name, device), "assessment": assessment(folder / "cpu" / "main", device)}
        found |= moved(folder / name / "moved", device)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
