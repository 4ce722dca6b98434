"""`calibrae sample | reconstruct | encode | interpolate | traverse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ._options import ArraysOption, DataOption, JsonFlag, OutOption, RunPath, Seed, SplitOption, check_split, integers
from ._print import print_json

Columns = Annotated[int, typer.Option(help="Columns of the grid.", min=1)]
Steps = Annotated[int, typer.Option(help="Points on each walk.", min=2)]


def _report(json: bool, **paths: Any) -> None:
    written = {name: str(value) for name, value in paths.items() if value is not None}
    if json:
        print_json(written)
    else:
        typer.echo("\n".join(f"wrote {value}" for value in written.values()))


def _place(run: str, out: str | None, name: str) -> Path:
    return Path(out) if out else Path(run) / name


def sample(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", "--n", help="How many.")] = 64,
    noise: Annotated[bool, typer.Option("--noise", help="Add the decoder's noise: true samples of p(x).")] = False,
    columns: Columns = 8,
    out: OutOption = None,
    arrays: ArraysOption = None,
    seed: Seed = 0,
    json: JsonFlag = False,
) -> None:
    """Draw z from the prior and decode it."""
    from ..figures import save_grid
    from ..workflows import load, run_preparation, save_arrays
    from ..workflows import sample as draw

    x = run_preparation(run).restore(draw(load(run), n, noise=noise, seed=seed))
    numbers = save_arrays(x, Path(arrays)) if arrays else None
    _report(json, picture=save_grid(x, _place(run, out, "samples.png"), columns, title="samples"), arrays=numbers)


def reconstruct(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", "--n", help="How many.")] = 32,
    data: DataOption = None,
    split: SplitOption = "test",
    columns: Columns = 8,
    out: OutOption = None,
    arrays: ArraysOption = None,
    seed: Seed = 0,
    json: JsonFlag = False,
) -> None:
    """Reconstruct examples at the posterior mean; each row of originals stands above its reconstructions."""
    from ..figures import save_grid
    from ..workflows import first_examples, load, run_data, run_preparation, save_arrays
    from ..workflows import reconstruct as rebuild

    model = load(run)
    x = first_examples(run_data(run, data), check_split(split), n, seed)
    restore = run_preparation(run).restore
    x, x_hat = restore(x), restore(rebuild(model, x))
    numbers = save_arrays(x_hat, Path(arrays)) if arrays else None
    picture = save_grid(x_hat, _place(run, out, "reconstructions.png"), columns, reference=x, title="reconstructions")
    _report(json, picture=picture, arrays=numbers)


def encode(
    run: RunPath,
    out: Annotated[
        str | None, typer.Option(help=".npy or .csv; by default codes.npy in the run.", show_default=False)
    ] = None,
    what: Annotated[str, typer.Option(help="mean, sample or log_std.")] = "mean",
    data: DataOption = None,
    split: SplitOption = "test",
    seed: Seed = 0,
    json: JsonFlag = False,
) -> None:
    """Write the code of every example of a split."""
    from ..workflows import encode as codes_of
    from ..workflows import load, run_data, save_arrays

    chosen: Any = what
    codes = codes_of(load(run), run_data(run, data), check_split(split), what=chosen, seed=seed)
    _report(json, codes=save_arrays(codes, _place(run, out, "codes.npy")))


def interpolate(
    run: RunPath,
    between: Annotated[str, typer.Option(help="Positions of 2 or 4 examples, e.g. 0,5 or 0,1,2,3.")] = "0,1",
    steps: Steps = 10,
    data: DataOption = None,
    split: SplitOption = "test",
    out: OutOption = None,
    arrays: ArraysOption = None,
    seed: Seed = 0,
    json: JsonFlag = False,
) -> None:
    """Walk in a straight line between the codes of 2 examples, or over the square of 4."""
    from ..figures import save_grid
    from ..workflows import interpolate as walk
    from ..workflows import load, parse_corners, run_data, run_preparation, save_arrays

    corners = parse_corners(integers(between, "--between"), run_data(run, data), check_split(split), seed)
    x = run_preparation(run).restore(walk(load(run), corners, steps))
    numbers = save_arrays(x, Path(arrays)) if arrays else None
    _report(
        json, picture=save_grid(x, _place(run, out, "interpolation.png"), steps, title="interpolation"), arrays=numbers
    )


def traverse(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", "--n", help="How many latents, the most informative first.")] = 10,
    steps: Steps = 11,
    reach: Annotated[float, typer.Option(help="How far, in prior standard deviations.")] = 3.0,
    data: DataOption = None,
    out: OutOption = None,
    arrays: ArraysOption = None,
    json: JsonFlag = False,
) -> None:
    """Change one latent at a time; a row each."""
    from ..figures import save_grid
    from ..workflows import load, run_data, run_preparation, save_arrays
    from ..workflows import traverse as walk

    x = run_preparation(run).restore(walk(load(run), run_data(run, data), n=n, steps=steps, reach=reach))
    numbers = save_arrays(x, Path(arrays)) if arrays else None
    _report(json, picture=save_grid(x, _place(run, out, "traversal.png"), steps, title="traversal"), arrays=numbers)
