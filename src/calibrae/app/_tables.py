"""The page *Tables*: synthetic rows, filled cells, and an alarm, for runs of tables of mixed columns."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, final

import gradio as gr
import numpy as np

from .._progress import watched
from ..errors import ArgumentError
from ..workflows import (
    Imputation,
    Run,
    Watch,
    impute,
    save_imputed,
    save_rows,
    save_rows_over_data,
    save_scores_csv,
    synthesise,
    watch,
)
from ._bench import HEAVY, Bench, Deadline, RunPicker, answered, image, picture, shown, whole
from ._subject import subject_of

MOST_ROWS = 100_000
LISTED = 50
PREVIEWED = 20


@final
class TablesPage:
    """Widgets of the page, and what they do.

    Args:
        bench: objects that the pages share.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        with gr.Row():
            self.runs = RunPicker(bench)
            seed = gr.Number(0, label="Seed", precision=0)
        gr.Markdown("## Synthetic rows")
        with gr.Row():
            count = gr.Number(1000, label="Rows", precision=0, elem_id="tables-count")
            given = gr.Textbox("", label="Given cells, a line each: COLUMN=VALUE", lines=2, elem_id="tables-given")
        draw = gr.Button("Draw rows", variant="primary", elem_id="tables-draw")
        drawn = gr.Markdown(elem_id="tables-drawn")
        over = image("Drawn rows (blue) over test rows (grey)", "tables-image")
        rows, file = gr.HTML(elem_id="tables-rows"), gr.File(label="All rows", interactive=False, visible=False)
        draw.click(self._draw, [self.runs.box, count, given, seed], [drawn, over, rows, file], **HEAVY)
        gr.Markdown("## A table of yours: fill its empty cells, or look for odd rows")
        with gr.Row():
            named = gr.Textbox("", label="File", elem_id="tables-data")
            files = gr.File(file_count="multiple", label="or send it", height=150, elem_id="tables-files")
            rate = gr.Number(0.01, label="Rate of false alarms", elem_id="tables-rate")
        with gr.Row():
            fill = gr.Button("Fill empty cells", elem_id="tables-fill")
            look = gr.Button("Look for odd rows", elem_id="tables-watch")
        about = gr.Markdown(elem_id="tables-about")
        found, result = gr.HTML(elem_id="tables-found"), gr.File(label="Result", interactive=False, visible=False)
        fill.click(self._fill, [self.runs.box, seed, named, files], [about, found, result], **HEAVY)
        look.click(self._watch, [self.runs.box, seed, named, files, rate], [about, found, result], **HEAVY)

    def _run(self, name: str | None, seed: float) -> Run:
        run = subject_of(self.bench, name, "test", seed).run
        if not run.preparation.spec.columns:
            raise ArgumentError(
                "this page is for runs of tables with words, dates, empty cells or types; choose such a run."
            )
        return run

    def _data(self, run: Run, named: str, files: list[str] | None) -> Any:
        if not files and not named.strip():
            raise ArgumentError("name or send a table first.")
        return self.bench.data_place(named, files, run=run.path)

    @answered
    def _draw(self, name: str | None, count: float, given: str, seed: float) -> Any:
        run = self._run(name, seed)
        n, chosen = whole(count, "the number of rows", 1, MOST_ROWS), whole(seed, "the seed", 0, 2**31 - 1)
        with watched(Deadline()):
            found = synthesise(run, n, given=_cells(given), seed=chosen)
        stored = run.table(found.rows).view("all")
        made: np.ndarray = stored.slice(0, len(stored)).double().numpy()
        drawn = picture(lambda path: save_rows_over_data(run.data, "test", made, path))
        said = "" if found.effective_samples is None else f", from {found.effective_samples:,.0f} effective latents"
        lines = [f"**{n:,} rows of {shown(_density(_cells(given)))} (run {shown(str(name))}, seed {chosen}){said}.**"]
        return _said(lines, self.bench.noted(found.notes)), drawn, _preview(found.rows), _file(found.rows, "rows.csv")

    @answered
    def _fill(self, name: str | None, seed: float, named: str, files: list[str] | None, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008  # fmt: skip
        run = self._run(name, seed)
        data, chosen = self._data(run, named, files), whole(seed, "the seed", 0, 2**31 - 1)
        with watched(Deadline(progress)):
            found = impute(run, data, seed=chosen)
        lines = [f"**{found}.**"]
        return _said(lines, self.bench.noted(found.notes)), _preview(found.rows), _filled(found)

    @answered
    def _watch(self, name: str | None, seed: float, named: str, files: list[str] | None, rate: float, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008  # fmt: skip
        run = self._run(name, seed)
        data, chosen = self._data(run, named, files), whole(seed, "the seed", 0, 2**31 - 1)
        with watched(Deadline(progress)):
            seen = watch(run, data, false_alarm_rate=float(rate), seed=chosen)
        count = int(seen.alarms.sum())
        lines = [
            f"**{count:,} of {len(seen.alarms):,} rows raise the alarm**; of ordinary rows at most {seen.rate:.2%} do, by {seen.calibrated_on:,} "
            "held-out rows.",
            "",
            seen.drift[0].upper() + seen.drift[1:] + ".",
        ]
        names = run.data.source.columns
        place = _place("scores.csv")
        save_scores_csv(seen.scores, place, {"p_value": seen.p_values.tolist(), "alarm": seen.alarms.tolist()})
        return (
            _said(lines, self.bench.noted(seen.scores.notes)),
            _odd(seen, names),
            gr.update(value=str(place), visible=True),
        )


def _cells(text: str) -> dict[str, str]:
    """Given cells, a line each.

    Raises:
        ArgumentError: if a line is not COLUMN=VALUE.
    """
    split = [line.partition("=") for line in text.splitlines() if line.strip()]
    if any(not name.strip() or not equals for name, equals, _ in split):
        raise ArgumentError("given cells are written COLUMN=VALUE, a line each.")
    return {name.strip(): value.strip() for name, _, value in split}


def _density(given: dict[str, str]) -> str:
    """Distribution that rows are drawn from, in symbols."""
    cells = ", ".join(f"{name} = {value}" for name, value in given.items())
    return f"p(x | {cells})" if cells else "p(x)"


def _place(name: str) -> Path:
    return Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR"))) / name


def _filled(found: Imputation) -> Any:
    return gr.update(value=str(save_imputed(found, _place("filled.csv"))), visible=True)


def _file(rows: Any, name: str) -> Any:
    return gr.update(value=str(save_rows(rows, _place(name))), visible=True)


def _said(lines: list[str], notes: list[str]) -> str:
    return "\n".join([*lines, "", *notes])


def _preview(rows: Any) -> str:
    """The first rows."""
    head = rows[:PREVIEWED]
    names = [str(name) for name in head.columns]
    body = "".join(
        "<tr>" + "".join(f"<td>{shown('' if value is None else str(value))}</td>" for value in row) + "</tr>"
        for row in head.to_numpy().tolist()
    )
    header = "".join(f"<th scope=col>{shown(name)}</th>" for name in names)
    return f"<div class='wide rows' tabindex=0><table class='plain'><caption>The first {len(head)} rows</caption><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"


def _odd(seen: Watch, names: tuple[str, ...]) -> str:
    """Rows that raise the alarm, the strangest first."""
    order = [i for i in seen.p_values.argsort().tolist() if seen.alarms[i]][:LISTED]
    columns = ["" if seen.strangest is None else names[int(seen.strangest[i])] for i in order]
    body = "".join(
        f"<tr><th scope=row>{shown(seen.scores.names[i])}</th><td class='number'>{float(seen.p_values[i]):.4f}</td><td>{shown(column)}</td></tr>"
        for i, column in zip(order, columns, strict=True)
    )
    return f"<table class='plain'><caption>Rows that raise the alarm</caption><thead><tr><th scope=col>row</th><th scope=col class='number'>p-value</th><th scope=col>strangest column</th></tr></thead><tbody>{body}</tbody></table>"
