"""One contender: sets itself up, then trains one pass over the images for every line on standard input, and says how long it took.

python worker.py CONTENDER NETWORK IMAGES.npy BATCH [device=cpu|cuda] [precision=fp32|bf16] [compile=on|off]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import wait

from networks import LATENTS, SHAPES, PlainVAE, build

Pass = Callable[[], float]


def calibrae(network: str, images: np.ndarray, batch: int, options: dict[str, str]) -> Pass:
    """Our trainer on the same modules; its own count of the second epoch's seconds, without validation.

    Every pass is a new run, whose first epoch warms up what the others have kept from their last pass.
    """
    import calibrae as cb

    encoder, decoder = build(network)
    prior, posterior = cb.StandardNormalPrior(LATENTS[network]), cb.GaussianPosterior("log_std")
    model = cb.VAE(encoder, decoder, cb.GaussianLikelihood(1.0), prior, posterior=posterior)
    few = images[: max(2 * batch, 256)]
    chosen: dict[str, Any] = {"precision": options.get("precision", "auto"), "compile": options.get("compile", "auto")}

    def one_pass() -> float:
        with tempfile.TemporaryDirectory() as folder:
            data = {"train": images, "validation": few, "test": few}
            settings = {
                "batch_size": batch,
                "lr": 1e-3,
                "grad_clip_norm": 0.0,
                "quiet": True,
                "pictures": False,
                **chosen,
            }
            settings |= {"device": options["device"], "retain_memory": True}
            first, second = cb.fit(model, data, Path(folder) / "run", epochs=2, **settings).history
            return float(second["seconds"] - first["seconds"])

    return one_pass


def bare(network: str, images: np.ndarray, batch: int, options: dict[str, str]) -> Pass:
    """The limit of the framework: images in the device's memory, one gather a batch, a fused optimiser, nothing else."""
    device = torch.device(options["device"])
    model = PlainVAE(network).to(device)
    if network == "conv":
        model = model.to(memory_format=torch.channels_last)
    step = torch.compile(model) if options.get("compile") == "on" else model
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    stored = torch.from_numpy(images).to(device)
    bf16 = options.get("precision") == "bf16"

    def one_pass() -> float:
        started = time.perf_counter()
        for index in torch.randperm(len(stored), device=device).split(batch):
            x = stored[index].float().add_(torch.rand(len(index), *SHAPES[network], device=device)).div_(256.0)
            if network == "conv":
                x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = step(x, torch.randn(len(index), LATENTS[network], device=device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        wait(device)
        return time.perf_counter() - started

    return one_pass


class Items(torch.utils.data.Dataset):
    """Images one by one, turned into tensors as torchvision's `ToTensor` does."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.images[index]).float().div(255.0)


def examples(network: str, images: np.ndarray, batch: int, options: dict[str, str]) -> Pass:
    """The loop of the PyTorch examples: a DataLoader of items, Adam, the loss read at every step."""
    device = torch.device(options["device"])
    model = PlainVAE(network).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    pinned = device.type == "cuda"
    loader = torch.utils.data.DataLoader(Items(images), batch_size=batch, shuffle=True, pin_memory=pinned)

    def one_pass() -> float:
        started, total = time.perf_counter(), 0.0
        model.train()
        for x in loader:
            x = x.to(device, non_blocking=True)
            optimiser.zero_grad()
            loss = model(x, torch.randn(len(x), LATENTS[network], device=device))
            loss.backward()
            total += loss.item()
            optimiser.step()
        return time.perf_counter() - started

    return one_pass


def pythae(network: str, images: np.ndarray, batch: int, options: dict[str, str]) -> Pass:
    """Pythae's trainer on the same modules, an epoch of its own `train_step`."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    inner, outer = build(network)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = inner

        def forward(self, x: torch.Tensor) -> Any:
            mu, log_var = self.layers(x).chunk(2, 1)
            return ModelOutput(embedding=mu, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = outer

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z))

    config = VAEConfig(input_dim=SHAPES[network], latent_dim=LATENTS[network], reconstruction_loss="mse")
    model = VAE(config, encoder=Encoder(), decoder=Decoder())
    data = torch.from_numpy(images).float() / 255.0
    trainer = BaseTrainer(
        model=model,
        train_dataset=BaseDataset(data, torch.ones(len(data))),
        training_config=BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(),
            num_epochs=1,
            learning_rate=1e-3,
            per_device_train_batch_size=batch,
            no_cuda=options["device"] != "cuda",
        ),
    )
    trainer.prepare_training()

    def one_pass() -> float:
        started = time.perf_counter()
        trainer.train_step(1)
        return time.perf_counter() - started

    return one_pass


def lightning(network: str, images: np.ndarray, batch: int, options: dict[str, str]) -> Pass:
    """A Lightning module in the usual style; the time between the start and the end of its epoch."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = PlainVAE(network)
            self.seconds = 0.0

        def training_step(self, parts: list[torch.Tensor], _: int) -> torch.Tensor:
            loss = self.model(parts[0], torch.randn(len(parts[0]), LATENTS[network], device=self.device))
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

        def on_train_epoch_start(self) -> None:
            self.started = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            wait(self.device)
            self.seconds = time.perf_counter() - self.started

    data = torch.utils.data.TensorDataset(torch.from_numpy(images).float() / 255.0)
    loader = torch.utils.data.DataLoader(data, batch_size=batch, shuffle=True)
    module = Module()

    def one_pass() -> float:
        quiet = {
            "logger": False,
            "enable_progress_bar": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
        }
        lightning.Trainer(max_epochs=1, accelerator=options["device"], devices=1, **quiet).fit(module, loader)
        return module.seconds

    return one_pass


CONTENDERS = {f.__name__: f for f in (calibrae, bare, examples, pythae, lightning)}


def main() -> None:
    """Answer every line with the seconds of one pass."""
    warnings.simplefilter("ignore")
    name, network, path, batch, *rest = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    torch.manual_seed(0)
    images = np.load(path)
    one_pass = CONTENDERS[name](network, images, int(batch), dict(part.split("=") for part in rest))
    one_pass()  # allocations, kernels, compilation
    print(json.dumps({"ready": name, "torch": torch.__version__}), file=answers)
    for _ in sys.stdin:
        print(json.dumps({"seconds": one_pass()}), file=answers)


if __name__ == "__main__":
    main()
