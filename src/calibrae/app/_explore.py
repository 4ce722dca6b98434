"""The page *Explore*: one run, its reconstructions, samples, interpolations, latents and their map."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import gradio as gr

from ..figures import shrunk
from ..workflows import examples, interpolate, reconstruct, run_data, sample, save_picture
from ._bench import LIGHT, SENT, Bench, RunPicker, answered, image, picture, shown, whole
from ._latents import MapTab, WalkTab
from ._subject import Subject, subject_of

MOST = 200  # pictures of a grid


@final
class ExplorePage:
    """Widgets of the page, and what they do. Every answer is seeded, in eval mode, and says which scale it used.

    Args:
        bench: objects that the pages share.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        with gr.Row():
            self.runs = RunPicker(bench)
            self.split = gr.Dropdown(["test", "validation", "train"], value="test", label="Split", min_width=110)
            self.seed = gr.Number(0, label="Seed", precision=0, min_width=90)
        self.about = gr.Markdown(elem_id="explore-about")
        self.runs.box.change(self.about_run, self.runs.box, self.about, **LIGHT)
        with gr.Tabs():
            with gr.Tab("Reconstruct", id="reconstruct"):
                self._reconstruct_tab()
            with gr.Tab("Sample", id="sample"):
                self._sample_tab()
            with gr.Tab("Interpolate", id="interpolate"):
                self._interpolate_tab()
            with gr.Tab("Traverse", id="traverse"):
                self.walks = WalkTab(bench, self.asked)
            with gr.Tab("Map", id="map"):
                self.map = MapTab(bench, self.asked)

    @property
    def asked(self) -> list[Any]:
        """Widgets that every answer depends on: the run, the split and the seed."""
        return [self.runs.box, self.split, self.seed]

    def _reconstruct_tab(self) -> None:
        with gr.Row():
            count = gr.Number(24, label="Examples", precision=0, elem_id="reconstruct-n")
            files = gr.File(file_count="multiple", label="or send your own", height=150, elem_id="reconstruct-files")
        go = gr.Button("Reconstruct", variant="primary", elem_id="reconstruct-go")
        shown_here = image("Originals above their reconstructions", "reconstruct-image")
        notes = gr.Markdown()
        go.click(self._reconstruct, [*self.asked, count, files], [shown_here, notes], **LIGHT)

    def _sample_tab(self) -> None:
        with gr.Row():
            count = gr.Number(32, label="Samples", precision=0, elem_id="sample-n")
            condition = gr.Textbox("", label="Condition of a conditional run (empty: as in the data)")
        noise = gr.Checkbox(label="with observation noise: x from p(x|z), not its mean")
        go = gr.Button("Sample", variant="primary", elem_id="sample-go")
        shown_here = image("Samples of the model", "sample-image")
        go.click(self._sample, [*self.asked, count, condition, noise], shown_here, **LIGHT)

    def _interpolate_tab(self) -> None:
        with gr.Row():
            between = gr.Textbox("0,1", label="Positions of 2 or 4 examples", elem_id="interpolate-between")
            steps = gr.Number(10, label="Steps", precision=0)
        go = gr.Button("Interpolate", variant="primary", elem_id="interpolate-go")
        shown_here = image("The way between the codes of the examples", "interpolate-image")
        go.click(self._interpolate, [*self.asked, between, steps], shown_here, **LIGHT)

    # -- events

    @answered
    def about_run(self, run: str | None) -> str:
        """The run in a line or two; empty without one."""
        return "" if run is None else described(subject_of(self.bench, run, "test", 0))

    @answered
    def _reconstruct(self, run: str, split: Any, seed: float, count: float, files: list[str] | None) -> Any:
        subject, n = subject_of(self.bench, run, split, seed), whole(count, "the number of examples", 1, MOST)
        data, name, notes = subject.data, f"{split} split", ""
        if files:
            place = self.bench.data_place(None, files, run=subject.run.path)
            data, split, name = run_data(subject.run.path, place), "all", SENT
            notes = "\n".join(self.bench.noted(data.source.notes))
        chosen = examples(data, split, min(n, len(data.view(split))), subject.seed)
        subject.require_drawable(len(chosen))
        restore, captions = data.preparation.restore, data.names(split, len(chosen))
        x_hat, title = reconstruct(subject.model, chosen.x, chosen.context), f"{len(chosen)} examples of {name}"
        how: dict[str, Any] = {
            "columns": 8,
            "reference": shrunk(restore(chosen.x)),
            "names": subject.names,
            "captions": captions,
            "fields": subject.data.source.schema.fields,
        }
        return picture(lambda path: save_picture(shrunk(restore(x_hat)), path, title=title, **how)), notes

    @answered
    def _sample(self, run: str, split: Any, seed: float, count: float, condition: str, noise: bool) -> Any:
        subject = subject_of(self.bench, run, split, seed)
        n = whole(count, "the number of samples", 1, MOST if not subject.is_table else 5000)
        subject.require_drawable(n)
        contexts = subject.contexts(n, condition)
        x = subject.run.preparation.restore(sample(subject.model, n, contexts, noise=noise, seed=subject.seed))
        title = f"{n} samples, {'with observation noise' if noise else 'means of p(x|z)'}, seed {subject.seed}"
        fields = subject.data.source.schema.fields
        return picture(
            lambda path: save_picture(shrunk(x), path, columns=8, names=subject.names, title=title, fields=fields)
        )

    @answered
    def _interpolate(self, run: str, split: Any, seed: float, between: str, steps: float) -> Any:
        subject, n = subject_of(self.bench, run, split, seed), whole(steps, "steps", 2, 24)
        subject.require_drawable(n * n)
        corners = subject.data.gather(split, subject.positions(between), subject.seed)
        x = subject.data.preparation.restore(interpolate(subject.model, corners, n))
        title = f"between the {split} examples {between}"
        return picture(
            lambda path: save_picture(
                shrunk(x),
                path,
                columns=n,
                names=subject.names,
                walks=True,
                title=title,
                fields=subject.data.source.schema.fields,
            )
        )


def described(subject: Subject) -> str:
    """The run, its scale and its numbers, in a line or two."""
    model, known = subject.model, subject.run.folder.read_run()
    scale = model.likelihood.scale
    sigma = "no scale" if scale is None else f"sigma {scale.std():.4g}, {scale.choice}, fixed on the training set"
    if scale is not None and scale.choice == "fixed":
        sigma = f"sigma {scale.std():.4g}, fixed from the start"
    name = model.config.name if model.config is not None else "a model of own modules"
    parts = [
        f"**{shown(subject.run.path.name)}**: {shown(name)}, d = {model.latent_dim}, {sigma}; {shown(Path(subject.data.source.name).name)}"
    ]
    found = known.get("validation") or {}
    if found.get("elbo_nats") is not None:
        parts.append(f"ELBO {found['elbo_nats']:.2f} ± {found['elbo_standard_error']:.2f} nats (validation)")
    if subject.run.condition is not None:
        parts.append(f"conditional on {shown(subject.run.condition.describe())}")
    return ". ".join(parts) + "."
