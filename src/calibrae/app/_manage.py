"""The page *Manage*: rename runs, and move them to the bin."""

from __future__ import annotations

from typing import Any, final

import gradio as gr

from ..errors import ArgumentError
from ..workflows import remove_run, rename_run
from ._bench import LIGHT, Bench, RunPicker, answered, shown
from ._compare import runs_as_html


@final
class ManagePage:
    """Widgets of the page, and what they do.

    Args:
        bench: objects that the pages share.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.table = gr.HTML(elem_id="manage-table")
        self.runs = RunPicker(bench)
        with gr.Row():
            name = gr.Textbox("", label="New name", elem_id="manage-name")
            rename = gr.Button("Rename", elem_id="manage-rename")
        with gr.Row():
            sure = gr.Textbox("", label="To delete it, type its name", elem_id="manage-sure")
            remove = gr.Button("Move to the bin", variant="stop", elem_id="manage-remove")
        self.said = gr.Markdown(elem_id="manage-said")
        rename.click(self._rename, [self.runs.box, name], [self.runs.box, self.said, name, self.table], **LIGHT)
        remove.click(self._remove, [self.runs.box, sure], [self.runs.box, self.said, sure, self.table], **LIGHT)

    @answered
    def rows(self) -> str:
        """The table of the runs by name, as HTML."""
        return runs_as_html(self.bench.shelf.rows("run"), self.bench)

    @answered
    def _rename(self, run: str | None, name: str) -> Any:
        place = rename_run(self.bench.shelf.place(run or ""), name.strip())
        chosen = self.bench.shelf.name_of(self.bench.folder / place.relative_to(self.bench.folder.absolute()))
        picker = gr.update(choices=self.bench.shelf.names(), value=chosen)
        return picker, f"{shown(run)} is now {shown(chosen)}.", "", self.rows()

    @answered
    def _remove(self, run: str | None, sure: str) -> Any:
        path = self.bench.shelf.place(run or "")
        if sure.strip() != run:
            raise ArgumentError(f"to delete {run}, type its name beside the button; got {sure.strip()[:60]!r}.")
        place = remove_run(path)
        return (
            self.runs.refreshed(None),
            f"{shown(run)} is in the bin: {shown(place)}. Move the folder back to have it again.",
            "",
            self.rows(),
        )
