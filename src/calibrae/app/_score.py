"""The page *Score*: how unusual the examples of a file are, and where it comes from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import gradio as gr

from .._progress import watched
from ..errors import ArgumentError
from ..workflows import Scores, draw_scores, save_scores_csv, score
from ._bench import HEAVY, Bench, Deadline, RunPicker, answered, image, picture, shown, whole
from ._subject import subject_of

LISTED = 50


@final
class ScorePage:
    """Widgets of the page, and what they do.

    Args:
        bench: objects that the pages share.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        with gr.Row():
            self.runs = RunPicker(bench)
            samples = gr.Number(50, label="Samples K of the bound", precision=0)
            seed = gr.Number(0, label="Seed", precision=0)
            less = gr.Checkbox(
                value=False, label="Less the compressed length (pictures, whole numbers)", elem_id="score-less"
            )
        with gr.Row():
            named = gr.Textbox("", label="Folder or file (empty: the run's own test split)", elem_id="score-data")
            files = gr.File(file_count="multiple", label="or send files", height=150, elem_id="score-files")
        go = gr.Button("Score", variant="primary", elem_id="score-go")
        about = gr.Markdown(elem_id="score-about")
        unusual = image("The most unusual examples, their reconstructions, and where they differ", "score-image")
        table = gr.HTML()
        csv = gr.File(label="All scores", interactive=False, visible=False)
        go.click(self._score, [self.runs.box, samples, seed, less, named, files], [about, unusual, table, csv], **HEAVY)

    @answered
    def _score(self, name: str | None, samples: float, seed: float, less: bool, named: str, files: list[str] | None, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008  # fmt: skip
        run = subject_of(self.bench, name, "test", seed).run
        data = self.bench.data_place(named, files, run=run.path) if files or named.strip() else None
        k, chosen = whole(samples, "the number of samples", 1, 5000), whole(seed, "the seed", 0, 2**31 - 1)
        with watched(Deadline(progress)):
            found = score(run, data, importance_samples=k, seed=chosen)
        order = found.ordered(corrected=less)  # refused here where no example has a length
        try:
            drawn = picture(lambda path: draw_scores(found, run.path, path, corrected=less))
        except ArgumentError as error:
            drawn, found.notes = gr.update(value=None, visible=False), (*found.notes, str(error))
        place = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR"))) / "scores.csv"
        save_scores_csv(found, place, corrected=less)
        return (
            _about(found, self.bench.noted(found.notes)),
            drawn,
            _table(found, order, corrected=less),
            gr.update(value=str(place), visible=True),
        )


def _about(found: Scores, notes: Sequence[str]) -> str:
    which = "" if found.split == "all" else f" of the {found.split} split"
    lines = [f"**{len(found.nll):,} examples{which}, mean -log p(x) at most {float(found.nll.mean()):.2f} nats (K = {found.samples}, seed {found.seed}).** The higher, the more unusual."]  # fmt: skip
    return "\n".join([*lines, "", *notes])


def _table(found: Scores, order: Sequence[int], *, corrected: bool) -> str:
    columns = [("-log p(x), nats", found.nll), *([("less its length", found.corrected)] if corrected else [])]
    heads = "".join(f"<th scope=col class='number'>{name}</th>" for name, _ in columns)
    rows = "".join(
        f"<tr><th scope=row>{shown(found.names[i])}</th>"
        + "".join(f"<td class='number'>{float(values[i]):.2f}</td>" for _, values in columns)
        + "</tr>"
        for i in order[:LISTED]
    )
    caption = f"The {min(LISTED, len(found.nll))} most unusual"
    return f"<table class='plain'><caption>{caption}</caption><thead><tr><th scope=col>example</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
