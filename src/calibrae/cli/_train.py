"""`calibrae train`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ._options import JsonFlag, integers, pair, sigma_value
from ._print import print_json

MODEL_OPTIONS = (
    "model",
    "network",
    "latent_dim",
    "likelihood",
    "sigma",
    "sigma_shared",
    "hidden",
    "activation",
    "width",
)
TRAIN_OPTIONS = (
    "epochs", "batch_size", "accumulate", "lr", "weight_decay", "clip", "kl_warmup", "averaging", "patience", "seed",
    "precision", "compile", "accelerator",
)  # fmt: skip


def train(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="digits, mnist, cifar10, ... or a folder or file.", show_default=False)],
    out: Annotated[str, typer.Option(help="Folder of the run.", show_default=False)],
    model: Annotated[str, typer.Option(help="autoencoder, vae, beta-vae or sigma-vae.")] = "sigma-vae",
    network: Annotated[str, typer.Option(help="auto, linear, mlp or conv.")] = "auto",
    latent_dim: Annotated[int, typer.Option(help="Latent dimensions d.")] = 50,
    likelihood: Annotated[str, typer.Option(help="gaussian, or bernoulli for binary data.")] = "gaussian",
    sigma: Annotated[
        str | None, typer.Option(help="optimal, learned or a number; by default the model's.", show_default=False)
    ] = None,
    sigma_shared: Annotated[str, typer.Option(help="One sigma for all elements, per channel or per element.")] = "all",
    beta: Annotated[
        float | None, typer.Option(help="Weight of the KL; by default the model's.", show_default=False)
    ] = None,
    beta_convention: Annotated[
        str, typer.Option(help="Loss in which --beta is written: nll, sse, mse, ...; calibrae beta --list.")
    ] = "nll",
    hidden: Annotated[str, typer.Option(help="Hidden widths of an mlp.")] = "512,512",
    activation: Annotated[str, typer.Option(help="Of an mlp: silu, gelu, relu, leaky-relu, tanh.")] = "silu",
    width: Annotated[int, typer.Option(help="Channels of a conv net's finest map.")] = 48,
    epochs: Annotated[int, typer.Option(help="Passes over the training set.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 64,
    accumulate: Annotated[int, typer.Option(help="Micro-batches a batch is cut into, to save memory.")] = 1,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 4e-3,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = 0.1,
    clip: Annotated[float, typer.Option(help="Gradient norm, in nats per dimension; 0 for none.")] = 0.065,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mirror training examples at random (not for digits or text).")
    ] = False,
    kl_warmup: Annotated[float, typer.Option(help="Epochs over which beta rises from 0.")] = 0.0,
    averaging: Annotated[float, typer.Option(help="Decay of a weight average, e.g. 0.999; 0 for none.")] = 0.0,
    patience: Annotated[int, typer.Option(help="Epochs without progress before stopping; 0 for never.")] = 0,
    seed: Annotated[int, typer.Option(help="Of weights, order and noise.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    compile: Annotated[str, typer.Option(help="auto, on or off.")] = "auto",  # noqa: A002 (the option's name is fixed)
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    size: Annotated[str | None, typer.Option(help="H,W to which pictures are brought.", show_default=False)] = None,
    resize: Annotated[str, typer.Option(help="crop or fit, with --size.")] = "crop",
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out files that cannot be read.")] = False,
    levels: Annotated[int | None, typer.Option(help="Integer values an element can take.", show_default=False)] = None,
    data_range: Annotated[str | None, typer.Option(help="LO,HI of float data.", show_default=False)] = None,
    standardise: Annotated[
        bool | None, typer.Option(help="Standardise float data by column.", show_default=False)
    ] = None,
    binarise: Annotated[bool, typer.Option("--binarise", help="Draw bits with the values as means.")] = False,
    split_seed: Annotated[int, typer.Option(help="Of the split, where none is given.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that is there.")] = False,
    json: JsonFlag = False,
) -> None:
    """Train a model on DATA; select, calibrate and save it; draw what it does."""
    from ..workflows import train_run

    values = dict(context.params)
    given = {name for name in values if _is_given(context, name)}
    values["sigma"] = sigma_value(sigma)
    values["size"], values["data_range"] = pair(size, "--size", int), pair(data_range, "--data-range")
    values["hidden"] = tuple(integers(hidden, "--hidden"))
    run = train_run(values, given)
    last = run.history[-1] if run.history else {}
    if json:
        print_json({"run": str(run.path), **last})
    else:
        typer.echo(f"trained: {run.path} (curves.png, reconstructions.png, ...)\nnext:    calibrae evaluate {run.path}")


def _is_given(context: typer.Context, name: str) -> bool:
    source: Any = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
