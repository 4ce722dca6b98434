"""`calibrae sample | reconstruct | encode | interpolate | traverse`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .._launched import is_first
from ._options import (
    ArraysOption,
    ConditionOption,
    DataOption,
    DeviceOption,
    HeaderFlag,
    JsonFlag,
    OutOption,
    OwnSplitOption,
    ResizeOption,
    RunPath,
    Seed,
    SizeOption,
    SkipBrokenFlag,
    condition_value,
    integers,
    reading,
    split_of,
)
from ._print import print_json, say_notes
from ._rows import sample_rows

Columns = Annotated[int, typer.Option(help="Columns of the grid.", min=1)]
Steps = Annotated[int, typer.Option(help="Points on each walk.", min=2)]


NUMBERS, PICTURE = (".csv", ".npy"), ".png"


def _report(json: bool, **paths: Any) -> None:
    written = {name: str(value) for name, value in paths.items() if value is not None}
    if json:
        print_json(written)
    else:
        typer.echo("\n".join(f"wrote {value}" for value in written.values()))


def _place(run: str, out: str | None, name: str) -> Path:
    return Path(out) if out else Path(run) / name


def _finish(
    run: str,
    x: Any,
    out: str | None,
    arrays: str | None,
    json: bool,
    name: str,
    examples: Sequence[str] = (),
    reference: Any = None,
    **how: Any,
) -> None:
    """Save the numbers if asked, draw the picture, and say where; `--out` writes what its suffix says.

    Args:
        run: the run folder.
        x: examples on the model's scale.
        out: place of the picture, or of the numbers.
        arrays: place of the numbers, beside the picture.
        json: whether to print JSON.
        name: usual name of the picture.
        examples: names of the examples, for a CSV.
        reference: originals of reconstructions, on the model's scale.
        how: how to draw.
    """
    from ..workflows import column_names, run_preparation, save_arrays, save_picture, save_rows_of, whole_columns

    preparation, names = run_preparation(run), column_names(run)
    place, written = _place(run, out, name), {}
    is_numbers = place.suffix.lower() in NUMBERS
    for kind, target in (("arrays", arrays), ("out", out if is_numbers else None)):
        if target:
            schema, units, at = preparation.schema, preparation.in_units(x), Path(target)
            if schema is not None and schema.is_mixed and at.suffix.lower() != ".npy":
                written[kind] = save_rows_of(schema, units, at, examples)
            else:
                written[kind] = save_arrays(units, at, names, examples, whole_columns(schema))
    if not is_numbers:
        shown = None if reference is None else preparation.restore(reference)
        fields = () if preparation.schema is None else preparation.schema.fields
        written = {
            "picture": save_picture(preparation.restore(x), place, names=names, reference=shown, fields=fields, **how),
            **written,
        }
    _report(json, **written)


def _require_suffixes(out: str | None, arrays: str | None) -> None:
    """Refuse a file that cannot be written before anything is computed."""
    from ..workflows import require_suffix

    if out is not None:
        require_suffix(Path(out), (PICTURE, *NUMBERS))
    if arrays is not None:
        require_suffix(Path(arrays), NUMBERS)


def sample(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", "--n", help="How many.")] = 64,
    observation_noise: Annotated[
        bool, typer.Option("--observation-noise", help="Draw from p(x|z) instead of taking its mean.")
    ] = False,
    condition: ConditionOption = None,
    given: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=VALUE that the rows of a table have; may be repeated.", show_default=False),
    ] = None,
    columns: Columns = 8,
    out: OutOption = None,
    arrays: ArraysOption = None,
    seed: Seed = 0,
    device: DeviceOption = "auto",
    json: JsonFlag = False,
) -> None:
    """Draw z from the prior and decode it; of a table of mixed columns, write rows as they came, drawn with all their noise."""
    from ..workflows import load, open_run
    from ..workflows import sample as draw

    opened = open_run(run)
    wanted = condition_value(condition, opened.condition)
    if opened.preparation.spec.columns:
        sample_rows(opened, n, given or (), wanted, _place(run, out, "samples.csv"), seed, json=json)
        return
    if given:
        raise typer.BadParameter("--given is for tables of mixed columns; this run was trained on other data. Drop it.")
    _require_suffixes(out, arrays)
    model = load(run, device=device)
    contexts = opened.contexts(wanted, n)
    x = draw(model, n, contexts, noise=observation_noise, seed=seed)
    title = f"{n} samples, with observation noise" if observation_noise else f"{n} samples (means)"
    _finish(run, x, out, arrays, json, "samples.png", columns=columns, title=title)


def reconstruct(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", "--n", help="How many.")] = 32,
    data: DataOption = None,
    split: OwnSplitOption = None,
    columns: Columns = 8,
    out: OutOption = None,
    arrays: ArraysOption = None,
    seed: Seed = 0,
    size: SizeOption = None,
    resize: ResizeOption = None,
    skip_broken: SkipBrokenFlag = False,
    header: HeaderFlag = None,
    device: DeviceOption = "auto",
    json: JsonFlag = False,
) -> None:
    """Reconstruct examples at the posterior mean; each row of originals stands above its reconstructions."""
    chosen_split = split_of(split, data)
    from ..workflows import about_new_data, examples, load, run_data
    from ..workflows import reconstruct as rebuild

    _require_suffixes(out, arrays)
    model = load(run, device=device)
    found = run_data(run, data, reading(run, size, resize, skip_broken, header))
    batch = examples(found, chosen_split, n, seed)
    how: dict[str, Any] = {"columns": columns, "reference": batch.x}
    named = found.names(chosen_split, n)
    how |= {"title": f"{len(batch)} examples ({chosen_split}) and their reconstructions", "captions": named}
    say_notes(json, about_new_data(found, chosen_split) if data else ())
    _finish(run, rebuild(model, batch.x, batch.context), out, arrays, json, "reconstructions.png", named, **how)


def encode(
    run: RunPath,
    out: Annotated[
        str | None, typer.Option(help=".npy or .csv; by default codes.npy in the run.", show_default=False)
    ] = None,
    what: Annotated[str, typer.Option(help="mean, sample or log_std.")] = "mean",
    data: DataOption = None,
    split: OwnSplitOption = None,
    seed: Seed = 0,
    size: SizeOption = None,
    resize: ResizeOption = None,
    skip_broken: SkipBrokenFlag = False,
    header: HeaderFlag = None,
    device: DeviceOption = "auto",
    json: JsonFlag = False,
) -> None:
    """Write the code of every example of a split; a .csv names the examples and the latents."""
    chosen_split = split_of(split, data)
    from ..training import join_world, local_device
    from ..workflows import about_new_data, load, require_suffix, run_data, save_arrays
    from ..workflows import encode as codes_of

    if out is not None:
        require_suffix(Path(out), NUMBERS)
    chosen: Any = what
    found = run_data(run, data, reading(run, size, resize, skip_broken, header))
    trained = load(run, device=local_device(device, join_world(device)))
    codes = codes_of(trained, found, chosen_split, what=chosen, seed=seed, device=device)
    if not is_first():
        return
    latents = [f"z{i}" for i in range(codes.shape[1])]
    place = save_arrays(codes, _place(run, out, "codes.npy"), latents, found.names(chosen_split))
    say_notes(json, about_new_data(found, chosen_split) if data else ())
    if json:
        print_json(
            {"codes": str(place), "n": len(codes), "latent_dim": codes.shape[1], "split": chosen_split, "what": what}
        )
    else:
        which = "all" if chosen_split == "all" else f"the {chosen_split} split's"
        typer.echo(f"wrote {place}: {which} {len(codes):,} examples x {codes.shape[1]} latents ({what})")


def interpolate(
    run: RunPath,
    between: Annotated[str, typer.Option(help="Positions of 2 or 4 examples, e.g. 0,5 or 0,1,2,3.")] = "0,1",
    steps: Steps = 10,
    data: DataOption = None,
    split: OwnSplitOption = None,
    out: OutOption = None,
    arrays: ArraysOption = None,
    seed: Seed = 0,
    device: DeviceOption = "auto",
    json: JsonFlag = False,
) -> None:
    """Walk in a straight line between the codes of 2 examples, or over the square of 4."""
    chosen_split = split_of(split, data)
    from ..workflows import interpolate as walk
    from ..workflows import load, run_data

    _require_suffixes(out, arrays)
    corners = run_data(run, data).gather(chosen_split, integers(between, "--between"), seed)
    x = walk(load(run, device=device), corners, steps)
    _finish(run, x, out, arrays, json, "interpolation.png", columns=steps, walks=True, title="interpolation")


def traverse(
    run: RunPath,
    n: Annotated[
        int,
        typer.Option("-n", "--n", help="How many latents, the most informative first; all if there are fewer.", min=1),
    ] = 10,
    steps: Steps = 11,
    reach: Annotated[float, typer.Option(help="How far, in prior standard deviations.")] = 3.0,
    condition: ConditionOption = None,
    data: DataOption = None,
    out: OutOption = None,
    arrays: ArraysOption = None,
    device: DeviceOption = "auto",
    json: JsonFlag = False,
) -> None:
    """Change one latent at a time; a row each."""
    from ..workflows import load, open_run, run_data
    from ..workflows import traverse as walk

    _require_suffixes(out, arrays)
    opened = open_run(run)
    value = condition_value(condition, opened.condition)
    context = None if value is None else opened.contexts(value, 1)
    one = None if context is None else context[0]
    walks = walk(load(run, device=device), run_data(run, data), n=n, steps=steps, reach=reach, context=one)
    title = f"traversal of the latents, {-reach:g} to {reach:g} standard deviations, by {walks.ranking.by}"
    how: dict[str, Any] = {"columns": steps, "walks": True, "title": title, "rows": walks.ranking.labels}
    _finish(run, walks.x, out, arrays, json, "traversal.png", **how)
