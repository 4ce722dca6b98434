"""The report of a run: one HTML file that people send around."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

from .._optional import names_missing
from .._types import Finding, Split
from ..data import KEPT
from ..errors import RunError
from ..evaluation import Evidence, findings, number
from ..figures.page import Advice, Figure, Page, Section, Table, packed, render
from ..runs import replace_text
from ..training import progress_bar
from ._evaluate import Opened
from ._evidence import gather
from ._exhibits import Exhibits
from ._records import OWN
from ._run import Run, open_run

NAME = "report.html"
HIGHLIGHTS, WIDEST = 6, 640


@names_missing
@progress_bar()
def report(
    run: str | Path | Run,
    out: str | Path | None = None,
    *,
    split: Split = "test",
    seed: int = 0,
) -> Path:
    """Write a report of a run: one HTML file that needs no network, with its numbers, pictures, and what to try next.

    Args:
        run: a run folder, or what `fit` returned.
        out: place of the file; by default `report.html` in the run's folder.
        split: split that the numbers are of.
        seed: seed of all noise.

    Returns:
        Place of the file.

    Raises:
        CalibraeError: if the run, its data or the place is not usable, saying what to do.

    Examples:
        >>> run = fit(build("vae", data_shape=(1, 8, 8), latent_dim=2), "digits", epochs=1, quiet=True, pictures=False)
        >>> report(run).name
        'report.html'
    """
    opened = run if isinstance(run, Run) else open_run(run)
    if opened.path is None:
        raise RunError("a report is of a run on disk. Train with `fit` or `calibrae train`.")
    place = Path(out) if out is not None else opened.path / NAME
    subject = Opened(opened, None, None, None, "auto")
    evidence = gather(subject, split, seed)
    page = _page(opened, evidence, Exhibits(opened, evidence, split, seed))
    place.parent.mkdir(parents=True, exist_ok=True)
    replace_text(place, render(page))
    return place


def _page(run: Run, evidence: Evidence, exhibits: Exhibits) -> Page:
    highlights, sections = exhibits.all()
    folder = run.folder
    return Page(
        title=folder.path.resolve().name,
        subtitle=_subtitle(run, evidence),
        verdict=_verdict(evidence),
        numbers=_numbers(evidence),
        highlights=[_small(figure) for figure in highlights[:HIGHLIGHTS]],
        advice=[advice_of(finding, run) for finding in findings(evidence)],
        sections=[_card(run), *sections],
        footer=f"Made by calibrae on {time.strftime('%Y-%m-%d')}. Numbers are in nats, of the {evidence.test.split} split, means over examples.",
    )


def _small(figure: Figure) -> Figure:
    """A picture of the first screen; the one that answers to the mouse stands below."""
    return replace(figure, png=packed(figure.png, WIDEST), plot=None, is_wide=False)


def _subtitle(run: Run, evidence: Evidence) -> str:
    data, model = run.data, run.model
    shape = " x ".join(map(str, data.spec.data_shape))
    parameters = sum(p.numel() for p in model.parameters())
    name = model.config.name if model.config is not None else "a model of own modules"
    return (
        f"{name} with {model.latent_dim} latents and {parameters:,} parameters, trained on {len(data.view('train')):,} examples of "
        f"{data.source.name} ({shape}); numbers of {evidence.test.n:,} {evidence.test.split} examples"
    )


def _verdict(evidence: Evidence) -> str:
    e = evidence.test
    if e.elbo_nats is None:
        return e.verdict
    return f"ELBO {number(e.elbo_nats, 2)} ± {number(e.elbo_standard_error, 2)} nats. {e.verdict}".replace("+-", "±")


def _numbers(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Numbers of the first screen: name, value, and what it is compared with."""
    e = evidence.test
    below = "" if e.baseline is None else e.baseline
    found = [
        (
            "ELBO, nats",
            None if e.elbo_nats is None else number(e.elbo_nats, 2),
            f"± {number(e.elbo_standard_error, 2)}",
        ),
        ("linear baseline, nats", _maybe(e.baseline_log_likelihood_nats, 2), below),
        ("bits per dimension", _maybe(e.bits_per_dim, 4), "of the integer data"),
        ("reconstruction, nats", number(e.reconstruction_nats, 2), "-log p(x|z)"),
        (
            "KL, nats",
            _maybe(e.kl_nats, 2),
            "" if e.active_units is None else f"{e.active_units} of {e.latent_dim} latents active",
        ),
        ("RMSE", None if e.mse is None else number(e.mse**0.5, 5), "of the reconstruction, model's scale"),
        ("sigma", _maybe(e.sigma, 5), f"shared over {e.sigma_shared}"),
    ]
    return [(name, value, note) for name, value, note in found if value is not None]


def _cost(known: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    """Time of training, and most memory of its first process and of that one's device."""
    several = known.get("hardware", {}).get("processes", 1) > 1
    who = "the first process" if several else "the process"
    parts = [f"{history[-1].get('seconds', 0.0):,.0f} s of training"] if history else []
    for name, where in (("peak_memory_gib", ""), ("peak_device_memory_gib", " on its device")):
        parts += [f"{who} held at most {known[name]:.2f} GiB{where}"] if name in known else []
    return ", ".join(parts) or "-"


def _hardware(found: Mapping[str, Any]) -> str:
    if not found:
        return "-"
    counts = ", ".join(f"{name}: {found[name]}" for name in ("cores", "threads", "processes"))
    return f"{found['device']}; {found['processor']}; {counts}; {found['memory_gib']:.0f} GiB"


def _maybe(value: float | None, digits: int) -> str | None:
    return None if value is None else number(value, digits)


def _card(run: Run) -> Section:
    """How the run came about, and the command that repeats it."""
    known, config = run.folder.read_run(), run.folder.read_config()
    data: dict[str, Any] = known["data"]
    versions = ", ".join(f"{name} {version}" for name, version in known.get("versions", {}).items())
    history = run.history
    rows = [
        ("data", str(data["name"])),
        ("fingerprint", str(data["fingerprint"])),
        ("scale of the model's data", run.data.spec.scale),
        *(
            (f"{split} split", f"{data['sizes'].get(split, 0):,} examples: {where}")
            for split, where in data["splits"].items()
        ),
        ("model", _words(config["model"])),
        ("objective", _words(config["objective"])),
        ("training", _words(config["training"])),
        ("seed", str(known.get("seed", ""))),
        ("epochs", f"{known.get('epochs', len(history))}, of which {known.get('selected_epoch', '?')} was kept"),
        ("cost", _cost(known, history)),
        ("hardware", _hardware(known.get("hardware", {}))),
        ("versions", versions),
    ]
    notes = [(str(i + 1), note) for i, note in enumerate(data.get("notes", []))]
    tables = [Table((), rows)]
    if notes:
        tables.append(Table((), notes, "Notes of the reader: what was assumed, converted or left out"))
    return Section(
        "Run card",
        code=_again(run, config),
        tables=tables,
    )


def _again(run: Run, config: dict[str, Any]) -> str:
    """Command that repeats a run; empty where it has data or parts that no command can name."""
    source = config["data"].get("source")
    is_own = OWN in (config["model"]["name"], config["objective"]["name"])
    if is_own or source is None or source.startswith(KEPT):
        return ""
    return f"calibrae train {quote(source)} --config {quote(f'{run.folder.path.resolve()}/config.toml')} --out NEW"


LONGEST = 160  # characters of a value on the run card


def _words(table: dict[str, Any]) -> str:
    """A table of a configuration in one line."""
    parts = []
    for name, value in table.items():
        if isinstance(value, dict):
            value = f"{value.get('name', '')}({_words({k: v for k, v in value.items() if k != 'name'})})"
        said = str(value)
        said = said if len(said) <= LONGEST else f"{said[:LONGEST]}... ({len(said):,} characters; all in model.json)"
        parts.append(f"{name}={said}" if name != "name" else said)
    return ", ".join(parts)


def advice_of(finding: Finding, run: Run) -> Advice:
    """A finding, with the command that follows from it."""
    return Advice(finding.severity, finding.message, finding.remedy, command_for(finding.code, run))


def command_for(code: str, run: Run) -> str:
    """Command that a finding suggests; empty where it takes more than an option."""
    epochs = len(run.history)
    again: dict[str, Sequence[str]] = {
        "still-falling": ("--resume", f"--epochs {2 * epochs}"),
        "one-epoch": ("--resume", "--epochs 20"),
        "posterior-collapse": ("--kl-warmup 0.3",),
        "over-fitted": ("--patience 5", "--weight-decay 0.3"),
        "miscalibrated": ("--sigma optimal",),
        "residuals-of-another-shape": ("--sigma-shared channel",),
        "unused-latents": (f"--latent-dim {_active(run)}",),
        "below-baseline": (f"--epochs {2 * epochs}", "--lr 1e-3"),
    }
    if code not in again:
        return ""
    config, place = run.folder.read_config(), str(run.folder.path.resolve())
    again_here = _again(run, config)
    if not again_here:
        return ""
    options = " ".join(again[code])
    if "--resume" in again[code]:
        return f"calibrae train {quote(config['data']['source'])} --out {quote(place)} {options}"
    return f"{again_here.removesuffix('NEW')}{quote(f'{place}-2')} {options}"


def _active(run: Run) -> int:
    known = run.folder.read_run().get("validation") or {}
    return max(1, int(known.get("active_units") or run.model.latent_dim))
