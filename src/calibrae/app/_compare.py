"""The page *Compare*: the table of runs, their curves over one another, and a comparison with paired differences."""

from __future__ import annotations

import html
import os
import time
from pathlib import Path
from typing import Any, final

import gradio as gr

from .._progress import watched
from ..errors import ArgumentError
from ..evaluation import number
from ..figures import save_overlay
from ..workflows import RunRow, compare, duration, report
from ._bench import HEAVY, LIGHT, Bench, Deadline, RunPicker, answered, image, picture, shown
from ._subject import subject_of

PAGES = ".pages"  # folder of comparisons below that of the runs
KEPT = 20  # comparisons
SORTED = {
    "ELBO": "elbo",
    "above baseline": "above_baseline",
    "bits/dim": "bits_per_dim",
    "name": "run",
    "time": "seconds",
}
HEAD = ("run", "data", "model", "ELBO", "±", "above baseline", "bits/dim", "sigma", "KL", "time", "state")


@final
class ComparePage:
    """Widgets of the page, and what they do.

    Args:
        bench: objects that the pages share.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        with gr.Row():
            self.sort = gr.Dropdown(list(SORTED), value="ELBO", label="Sort by", min_width=140)
            self.runs = RunPicker(bench, "Runs to compare; one for its report", several=True)
            self.split = gr.Dropdown(["test", "validation"], value="validation", label="Split", min_width=110)
        self.table = gr.HTML(elem_id="compare-table")
        with gr.Row():
            over = gr.Button("Curves over one another", elem_id="compare-curves-go")
            go = gr.Button("Compare, or report on one", variant="primary", elem_id="compare-go")
        curves = image("Validation curves of the runs over epochs", "compare-curves")
        page = gr.HTML(elem_id="compare-page")
        self.sort.change(self.rows, self.sort, self.table, **LIGHT)
        over.click(self._curves, self.runs.box, curves, **LIGHT)
        go.click(self._compare, [self.runs.box, self.split], page, **HEAVY)

    @answered
    def rows(self, sort: str) -> str:
        """The table of the runs, as HTML."""
        rows = self.bench.shelf.rows(SORTED.get(sort, "run"))
        return runs_as_html(rows, self.bench)

    @answered
    def _curves(self, names: list[str]) -> Any:
        histories = {name: self.bench.shelf.history(name) for name in _some(names)}
        empty = [name for name, history in histories.items() if not history]
        if empty:
            raise ArgumentError(f"{empty[0]} has not ended an epoch yet. Choose other runs, or wait.")
        return picture(lambda path: save_overlay(histories, path))

    @answered
    def _compare(self, names: list[str], split: Any, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008 (Gradio's way)
        chosen = [subject_of(self.bench, name, split, 0).run for name in _some(names)]
        place = self.bench.folder / PAGES / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}.html"
        with watched(Deadline(progress)):
            if len(chosen) == 1:
                report(chosen[0], place, split=split)
            else:
                compare(chosen, place, split=split)
        _forget_old(place.parent)
        title = html.escape(f"Comparison of {', '.join(names)}" if len(names) > 1 else f"Report on {names[0]}")
        link = f"/pages/{place.name}"
        return f"<p><a href='{link}' target='_blank'>Open it in a page of its own</a></p><iframe src='{link}' title='{title}' class='page'></iframe>"


def _some(names: list[str] | None) -> list[str]:
    if not names:
        raise ArgumentError("choose the runs above.")
    if len(names) > 9:
        raise ArgumentError(f"at most 9 runs can be told apart; got {len(names)}.")
    return names


def _forget_old(folder: Path) -> None:
    for old in sorted(folder.glob("*.html"))[:-KEPT]:
        old.unlink(missing_ok=True)


def runs_as_html(rows: list[RunRow], bench: Bench) -> str:
    """The table of runs; a damaged one says so in its last column."""
    body = []
    for row in rows:
        numbers = (
            number(row.elbo, 2), number(row.error, 2), number(row.above_baseline, 2), number(row.bits_per_dim, 3), number(row.sigma, 4),
            number(row.kl, 1), "-" if row.seconds is None else duration(row.seconds),
        )  # fmt: skip
        words = "".join(f"<td>{shown(text)}</td>" for text in (row.data, row.model))
        cells = "".join(f"<td class='number'>{cell}</td>" for cell in numbers)
        body.append(
            f"<tr><th scope=row>{shown(bench.shelf.name_of(row.run))}</th>{words}{cells}<td>{shown(row.state)}</td></tr>"
        )
    head = "".join(f"<th scope=col{' class=number' * (3 <= i < 10)}>{name}</th>" for i, name in enumerate(HEAD))
    none = f"<tr><td colspan={len(HEAD)}>There are no runs in {shown(bench.folder)} yet.</td></tr>"
    return f"<div class='wide rows' tabindex=0><table class='plain'><caption>Numbers of the validation split, nats.</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body) or none}</tbody></table></div>"
