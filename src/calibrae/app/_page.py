"""The page of the workbench: its tabs, its look, and what is filled in when it opens."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ._audit import AuditPage
from ._bench import QUIET, Bench, RunPicker
from ._betas import BetasPage
from ._compare import ComparePage
from ._explore import ExplorePage
from ._manage import ManagePage
from ._score import ScorePage
from ._tables import TablesPage
from ._train import TrainPage

CSS = """
table.plain, .plain tr, .plain thead { border: 0 !important; }
table.plain { border-collapse: collapse !important; font-size: .92rem; width: auto; min-width: 40%; margin: 0 !important; }
.plain caption { text-align: left; padding: .3rem 0; }
.plain th, .plain td { text-align: left; padding: .3rem .9rem .3rem 0 !important; border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important; vertical-align: top; }
.plain .number { text-align: right !important; font-variant-numeric: tabular-nums; }
.plain th[scope=row] { font-weight: 600; }
.wide { overflow-x: auto; }
.rows td, .rows th { white-space: nowrap; }
.fixed textarea { font-family: var(--font-mono); font-size: .85rem; white-space: pre; overflow-x: auto; }
details summary { cursor: pointer; padding: .4rem 0; }
iframe.page { width: 100%; height: 75vh; border: 1px solid var(--border-color-primary); border-radius: .5rem; background: white; }
"""


def theme() -> Any:
    """A quiet look whose fonts are the system's: nothing is fetched from elsewhere."""
    fonts = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
    found = gr.themes.Default(primary_hue="blue", font=fonts, font_mono=("ui-monospace", "Consolas", "monospace"))
    return found.set(  # what can be read by everybody: contrasts of 4.5 at least
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_600",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_dark="#b91c1c",
    )


def build(bench: Bench) -> gr.Blocks:
    """All pages."""
    with gr.Blocks(title=f"calibrae: {bench.folder.resolve().name}", analytics_enabled=False, fill_width=True, delete_cache=(3600, 24 * 3600)) as blocks:  # fmt: skip
        gr.Markdown(f"# calibrae\nRuns in `{bench.folder}`. Numbers are in nats.")
        with gr.Tabs():
            with gr.Tab("Train", id="train"):
                train = TrainPage(bench)
            with gr.Tab("Explore", id="explore") as explore_tab:
                explore = ExplorePage(bench)
            with gr.Tab("Compare", id="compare") as compare_tab:
                comparison = ComparePage(bench)
            with gr.Tab("Score", id="score") as score_tab:
                scores = ScorePage(bench)
            with gr.Tab("Tables", id="tables") as tables_tab:
                tables = TablesPage(bench)
            with gr.Tab("Betas", id="betas"):
                betas = BetasPage()
            with gr.Tab("Audit", id="audit"):
                AuditPage(bench)
            with gr.Tab("Manage", id="manage") as manage_tab:
                manage = ManagePage(bench)
        for tab, picker in (
            (explore_tab, explore.runs), (compare_tab, comparison.runs), (score_tab, scores.runs), (tables_tab, tables.runs), (manage_tab, manage.runs),
        ):  # fmt: skip
            _keep_fresh(blocks, tab, picker)
        compare_tab.select(comparison.rows, comparison.sort, comparison.table, **QUIET)
        manage_tab.select(manage.rows, None, manage.table, **QUIET)
        function, inputs, output = train.first()
        blocks.load(function, inputs, output, **QUIET)
        explore_tab.select(explore.about_run, explore.runs.box, explore.about, **QUIET)
        blocks.load(betas.translate, betas.asked, [betas.answer, betas.table], **QUIET)
    return blocks


def _keep_fresh(blocks: gr.Blocks, tab: gr.Tab, picker: RunPicker) -> None:
    """Look for runs anew whenever a page is opened."""
    tab.select(picker.refreshed, picker.box, picker.box, **QUIET)
    blocks.load(picker.refreshed, picker.box, picker.box, **QUIET)
