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
import torch
from torch import nn

import calibrae as cb
from calibrae.evaluation import AnnealedSettings, FullSettings
from calibrae.training import Trainer, _whole_step
from calibrae.workflows import draw_scores, encode, interpolate, reconstruct, run_data, sample, traverse

SHAPE, LATENTS = (1, 8, 8), 3
QUICK: dict[str, Any] = {"epochs": 2, "precision": "fp32", "compile": "off", "quiet": True, "pictures": False}


def preset(**options: Any) -> cb.VAE:
    torch.manual_seed(0)
    return cb.build("sigma-vae", data_shape=SHAPE, latent_dim=LATENTS, **options)


def own(likelihood: Any) -> cb.VAE:
    """Convolutions that are not a preset's, so that their layout is chosen by a trial."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2 * LATENTS))
    decoder = nn.Sequential(nn.Linear(LATENTS, 64), nn.Sigmoid(), nn.Unflatten(1, SHAPE))
    return cb.VAE(encoder, decoder, likelihood, cb.StandardNormalPrior(LATENTS))


def trained(model: cb.VAE, folder: Path, accelerator: str, **options: Any) -> list[dict[str, float]]:
    """The history of a short run, without its clock."""
    run = cb.fit(model, "digits", folder, accelerator=accelerator, **QUICK | options)
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in run.history]


def training(folder: Path, accelerator: str) -> dict[str, Any]:
    """Runs that take every way through a step."""
    found: dict[str, Any] = {}
    for sigma, shared in ((0.1, "all"), ("learned", "channel"), ("optimal", "element")):
        model = preset(sigma=sigma, sigma_shared=shared)
        name = f"sigma {sigma}, {shared}"
        found[name] = trained(model, folder / name, accelerator, accumulate=3, averaging=0.9, flip=True)
    found["own networks"] = trained(own(cb.GaussianLikelihood("optimal")), folder / "own", accelerator)
    with patch.object(_whole_step, "compile_alone", lambda function, **_: function):
        found["step as a whole"] = trained(preset(sigma="learned"), folder / "whole", accelerator, compile="on")
    found["cut and resumed"] = cut_and_resumed(folder / "cut", accelerator)
    main = folder / "main"
    found["first"] = trained(preset(), main, accelerator, pictures=True)
    found["resumed"] = trained(preset(), main, accelerator, epochs=3, resume=True)
    return found


def cut_and_resumed(folder: Path, accelerator: str) -> list[dict[str, float]]:
    """The history of a run that a Ctrl-C ended in the middle of its first epoch, and that went on."""
    step, taken = Trainer._step, []

    def interrupted(trainer: Trainer, *batch: Any) -> Any:
        taken.append(1)
        is_made_ahead = any(thread.name.startswith("calibrae-batches") for thread in threading.enumerate())
        assert is_made_ahead == (accelerator != "cpu")
        if len(taken) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(trainer, *batch)

    with patch.object(Trainer, "_step", interrupted), suppress(KeyboardInterrupt):
        trained(preset(), folder, accelerator, flip=True)
        raise AssertionError("the run was not interrupted")
    return trained(preset(), folder, accelerator, flip=True, resume=True)


def assessment(path: Path, device: str) -> dict[str, Any]:
    """All that is computed of a trained model."""
    annealed = AnnealedSettings(chains=2, temperatures=4, leapfrog=2)
    settings = FullSettings(examples=8, importance_samples=(1, 20), annealed_examples=4, annealed=annealed)
    model, data = cb.load(path, device=device), run_data(path)
    x = next(iter(data.batches("test", 16)))[1]
    scores = cb.score(path, device=device, limit=8, importance_samples=5)
    draw_scores(scores, data.source.columns, path / "scores.png")
    drawn = {
        "sample": sample(model, 4, noise=True),
        "encode": encode(model, data, "test", what="sample"),
        "reconstruct": reconstruct(model, x),
        "interpolate": interpolate(model, x[:2], 3),
        "traverse": traverse(model, data, n=2, steps=3),
        "score": scores.nll,
    }
    assert all(values.device.type == "cpu" for values in drawn.values()), "what is drawn or written must be on the CPU"
    return {name: values.tolist() for name, values in drawn.items()} | {
        "evaluate": cb.evaluate(path, device=device, importance_samples=20, limit=32).to_dict(),
        "full": cb.evaluate_full(path, device=device, limit=32, settings=settings).to_dict(),
        "diagnose": [finding.says for finding in cb.diagnose(path, device=device)],
        "calibrate": float(cb.calibrate_sigma(model, x)),
    }


def moved(folder: Path, device: str) -> dict[str, Any]:
    """A run is assessed where its model is, and where it is asked to be."""
    run = cb.fit(preset(), "digits", folder, accelerator=device, **QUICK)
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
    with patch.object(lightning_fabric, "Fabric", fabric), patch.object(torch, "load", second.load):
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
