"""`calibrae train`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from ._options import JsonFlag, column_types, integers, pair, sigma_value
from ._print import print_json


def train(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="digits, mnist, cifar10, ... or a folder or file.", show_default=False)],
    out: Annotated[str, typer.Option(help="Folder of the run.", show_default=False)],
    model: Annotated[str, typer.Option(help="autoencoder, vae, beta-vae or sigma-vae.")] = "sigma-vae",
    network: Annotated[str, typer.Option(help="auto, linear, mlp or conv.")] = "auto",
    latent_dim: Annotated[int, typer.Option(help="Latent dimensions d.")] = 50,
    likelihood: Annotated[
        str | None,
        typer.Option(
            help="gaussian, laplace, gaussian-per-example, bernoulli (binary data), mixed (tables of several types), or a name of yours; "
            "by default gaussian, or mixed where a table needs it.",
            show_default=False,
        ),
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            help="Scale of the likelihood: optimal, learned or a number; by default the model's.", show_default=False
        ),
    ] = None,
    sigma_shared: Annotated[str, typer.Option(help="One scale for all elements, per channel or per element.")] = "all",
    prior: Annotated[
        str | None,
        typer.Option(
            help="standard-normal, mixture (mixture:components=8), conditional-gaussian, ...; by default the model's.",
            show_default=False,
        ),
    ] = None,
    posterior: Annotated[
        str | None, typer.Option(help="gaussian, ...; by default the model's.", show_default=False)
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="beta-elbo, iwae (iwae:samples=5), ...; by default the model's.", show_default=False),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Weight of the KL; by default the model's.", show_default=False)
    ] = None,
    beta_convention: Annotated[
        str, typer.Option(help="Loss in which --beta is written: nll, sse, mse, ...; calibrae beta --list.")
    ] = "nll",
    kl_warmup: Annotated[
        float | None, typer.Option(help="Share of all steps over which beta rises from 0.", show_default=False)
    ] = None,
    hidden: Annotated[str, typer.Option(help="Hidden widths of an mlp.")] = "512,512",
    activation: Annotated[
        str, typer.Option(help="Activation of the mlp: silu, gelu, relu, leaky-relu, tanh.")
    ] = "silu",
    width: Annotated[int, typer.Option(help="Channels of a conv net's finest map.")] = 48,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training set; by default until the validation loss has settled, or 18,000 steps are over.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Batch size.")] = 64,
    micro_batches: Annotated[int, typer.Option(help="Pieces that a batch is cut into, to save memory.")] = 1,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 4e-3,
    weight_decay: Annotated[
        float | None,
        typer.Option(help="AdamW weight decay; by default 0.1, and 0 for a linear network.", show_default=False),
    ] = None,
    lr_warmup: Annotated[float, typer.Option(help="Share of all steps over which the learning rate rises.")] = 0.05,
    grad_clip_norm: Annotated[
        float, typer.Option(help="Largest gradient norm, in nats per dimension; 0 for none.")
    ] = 0.065,
    horizontal_flip: Annotated[
        bool, typer.Option("--horizontal-flip", help="Mirror training examples at random (not for digits or text).")
    ] = False,
    ema_decay: Annotated[
        float, typer.Option(help="Decay of a moving average of the weights, e.g. 0.999; 0 for none.")
    ] = 0.0,
    patience: Annotated[int, typer.Option(help="Epochs without progress before stopping; 0 for never.")] = 0,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    compile: Annotated[str, typer.Option(help="auto, on or off.")] = "auto",  # noqa: A002 (the option's name is fixed)
    acceleration: Annotated[str, typer.Option(help="on, or off for the plain step.")] = "on",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    accelerator: Annotated[
        str | None, typer.Option(help="Word of Lightning for --device, read as such.", hidden=True, show_default=False)
    ] = None,
    threads: Annotated[str, typer.Option(help="Threads of the CPU; auto chooses by measuring.")] = "auto",
    save_every: Annotated[
        str, typer.Option(help="Save within an epoch after so many steps (1000) or so much time (90s, 5min, 1h).")
    ] = "5min",
    keep: Annotated[int, typer.Option(help="States that are kept to go on from.")] = 2,
    fsdp: Annotated[
        bool,
        typer.Option(
            "--fsdp", help="Cut the networks into a piece for each process, where they are too large for one card."
        ),
    ] = False,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            help="Save and stop after so many minutes, with exit code 75; --resume goes on.", show_default=False
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(help="H,W to which pictures are brought.", show_default=False)] = None,
    resize: Annotated[str, typer.Option(help="crop or fit, with --size.")] = "crop",
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out files that cannot be read.")] = False,
    header: Annotated[
        bool | None,
        typer.Option(
            help="Whether a CSV's first line holds names; by default, unless they are numbers.", show_default=False
        ),
    ] = None,
    levels: Annotated[int | None, typer.Option(help="Integer values an element can take.", show_default=False)] = None,
    data_range: Annotated[str | None, typer.Option(help="LO,HI of float data.", show_default=False)] = None,
    standardise: Annotated[
        bool | None, typer.Option(help="Standardise float data by column.", show_default=False)
    ] = None,
    binarise: Annotated[
        bool, typer.Option("--binarise", help="Turn grey values into random 0/1, anew in every epoch.")
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(
            "--types",
            help="Types of a table's columns: a TOML file of NAME = TYPE, or NAME=TYPE,NAME=TYPE: real, heavy-tailed, positive, count, ordinal, "
            "categorical, binary, zero-inflated, date or leave-out.",
            show_default=False,
        ),
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="Further words that mean a missing cell, as in -999,unknown (blanks, ?, NA, NaN, null and none do already).",
            show_default=False,
        ),
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="Condition on: class (folders of pictures), label (label files), or a column; may be repeated.",
            show_default=False,
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Read Parquet or tar files where they lie, a part at a time, and copy none of it."
        ),
    ] = False,
    split_seed: Annotated[int, typer.Option(help="Seed of the split, where none is given.")] = 0,
    config: Annotated[
        str | None,
        typer.Option(help="TOML file with options, as a run's config.toml; options here win.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that is there.")] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report/--no-report", help="Write report.html at the end.", envvar="CALIBRAE_REPORT", show_envvar=True
        ),
    ] = True,
    pictures: Annotated[
        bool | None,
        typer.Option(
            "--pictures/--no-pictures",
            help="Draw curves, examples and samples at the end.",
            envvar="CALIBRAE_PICTURES",
            show_envvar=True,
            show_default="pictures",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also tell how it is done: device, precision, threads, compilation.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Train a model on DATA; select, calibrate and save it; draw what it does."""
    from ..training import OUT_OF_TIME
    from ..workflows import train_run

    values, given = read_options(context)
    run = train_run(values, given)
    last = run.history[-1] if run.history else {}
    is_finished = bool(run.folder.read_run()["finished"])
    if json:
        print_json({"run": str(run.path), **last})
    elif is_finished:
        page = run.path / "report.html"
        seen = f"\nlook at: {page}" if page.exists() else ""
        drawn = " (curves.png, reconstructions.png, ...)" if (run.path / "curves.png").exists() else ""
        typer.echo(f"trained: {run.path}{drawn}{seen}\nnext:    calibrae evaluate {run.path}")
    if not is_finished:
        raise typer.Exit(OUT_OF_TIME)


def read_options(context: typer.Context) -> tuple[dict[str, Any], set[str]]:
    """Read the options of `train` as values by name, and which of them the user wrote.

    Raises:
        typer.BadParameter: if an option or the file of `--config` cannot be read.
    """
    values = dict(context.params)
    given = {name for name in values if _is_given(context, name)}
    threads, accelerator = values["threads"], values.pop("accelerator")
    if "accelerator" in given:
        values["device"] = accelerator
        given = (given - {"accelerator"}) | {"device"}
    values["sigma"] = sigma_value(values["sigma"])
    values["size"] = pair(values["size"], "--size", int)
    values["data_range"] = pair(values["data_range"], "--data-range")
    values["hidden"] = tuple(integers(values["hidden"], "--hidden"))
    values["threads"] = threads if threads == "auto" else integers(threads, "--threads")[0]
    values["columns"] = column_types(values["columns"])
    values["missing"] = tuple((values["missing"] or "").split(",")) if values["missing"] else ()
    values["retain_memory"] = True  # this process does nothing else
    if values["config"] is not None:
        values |= _configured(values["config"], given, set(values))
    return values, given


def _configured(path: str, given: set[str], names: set[str]) -> dict[str, Any]:
    """Values of a configuration file for the options that the user did not write.

    Args:
        path: place of the file.
        given: options that the user wrote, which win; arguments of a part that they replace are left out too.
        names: names of all options.

    Raises:
        typer.BadParameter: if the file cannot be read, or names an option that there is not.
    """
    from ..workflows import words_of

    try:
        stored = words_of(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise typer.BadParameter(f"--config {path} cannot be read: {error}") from error
    unknown = sorted(name for name in stored if name not in names | KNOWN or name in REFUSED)
    if unknown:
        raise typer.BadParameter(f"--config {path}: there is no option {', '.join(unknown)}.")
    pairs = ("size", "data_range", "hidden", "missing")
    replaced = given | {argument for part in given & ARGUMENTS.keys() for argument in ARGUMENTS[part]}
    return {name: tuple(value) if name in pairs else value for name, value in stored.items() if name not in replaced}


REFUSED = frozenset(
    {"data", "out", "config", "resume", "overwrite", "json", "report", "verbose"}
)  # of the command, not of the run
ARGUMENTS = {"likelihood": ("sigma", "sigma_shared"), "objective": ("beta", "beta_convention", "kl_warmup")}
KNOWN = frozenset({"retain_memory", "eval_batch_size", "validation_fraction", "test_fraction"})


def _is_given(context: typer.Context, name: str) -> bool:
    source: Any = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
