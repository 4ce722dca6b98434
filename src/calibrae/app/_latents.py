"""Tabs of the page *Explore* that look at latents: walks from an example, and a map of all codes."""

from __future__ import annotations

from typing import Any, final

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from ..figures import TableColumn, save_row, shrunk
from ..models import evaluating, mean_of
from ..workflows import (
    Ranking,
    cells_in_words,
    code_map,
    columns_of,
    decode,
    has_umap,
    prior_middle,
    ranked_latents,
    reconstruct,
    save_picture,
    traverse,
)
from ._bench import HEAVY, LIGHT, Bench, answered, image, picture, whole
from ._subject import Subject, subject_of

PAGE, STEPS, REACH = 8, 11, 3.0
LARGE = 240  # pixels of a side


@final
class WalkTab:
    """Walks along the latents in pages, from an example or from the prior's mean, and a slider for each latent.

    Args:
        bench: objects that the pages share.
        asked: widgets of the run, the split and the seed.
    """

    def __init__(self, bench: Bench, asked: list[Any]) -> None:
        self.bench = bench
        with gr.Row():
            example = gr.Textbox("0", label="Position of the example (empty: the prior's mean)", elem_id="walk-example")
            page = gr.Number(1, label="Page of 8 latents, most KL first", precision=0, minimum=1, elem_id="walk-page")
        go = gr.Button("Traverse", variant="primary", elem_id="walk-go")
        walks = image("Walks along the latents: each row changes one", "walk-image")
        gr.Markdown("Move the latents of this page by hand, in standard deviations of the prior:")
        with gr.Row():
            with gr.Column(scale=3):
                self.sliders = [gr.Slider(-REACH, REACH, 0.0, step=0.01, label=f"latent {i + 1} of the page", visible=False, elem_id=f"walk-slider-{i}") for i in range(PAGE)]  # fmt: skip
            point = image("The decoded point", "walk-point", scale=2)
        start = gr.State(None)
        asked_here = [*asked, example, page]
        go.click(self._walk, asked_here, [walks, start, point, *self.sliders], **HEAVY)
        for slider in self.sliders:
            slider.input(self._move, [*asked, start, *self.sliders], point, trigger_mode="always_last", **LIGHT)

    @answered
    def _walk(self, run: str, split: Any, seed: float, example: str, page: float) -> Any:
        subject = subject_of(self.bench, run, split, seed)
        pages = -(-subject.model.latent_dim // PAGE)
        number = whole(page, "the page", 1, pages)
        every = ranked_latents(subject.model, subject.data, subject.model.latent_dim)
        here = slice((number - 1) * PAGE, number * PAGE)
        ranking = Ranking(every.dims[here], every.values[here], every.by)
        code, context = self._code(subject, example)
        one = None if context is None else context[0]
        found = traverse(subject.model, subject.data, steps=STEPS, reach=REACH, context=one, ranking=ranking, code=code)
        x = shrunk(subject.data.preparation.restore(found.x))
        near = found.nearest.tolist() if code is not None else []
        framed = [row * STEPS + step for row, step in enumerate(near) if step >= 0]
        title = f"latents {here.start + 1} to {here.start + len(ranking.dims)} of {len(every.dims)}, -{REACH:g} to {REACH:g} standard deviations"
        title += (
            "; orange: nearest to the example" if subject.is_table else "; framed: nearest to the example"
        ) * bool(framed)
        fields = subject.data.source.schema.fields
        how: dict[str, Any] = {"columns": STEPS, "walks": True, "rows": ranking.labels, "framed": framed, "names": subject.names, "fields": fields}  # fmt: skip
        drawn = picture(lambda path: save_picture(x, path, title=title, **how))
        mean, std = (
            part.cpu()
            for part in prior_middle(subject.model, None if context is None else context.to(subject.model.device))
        )
        at = code if code is not None else mean
        places = ((at - mean) / std)[ranking.dims].clamp(-REACH, REACH).tolist()
        values = [round(place, 2) for place in places]
        sliders = [
            gr.update(visible=i < len(values), value=values[i] if i < len(values) else 0.0, label=ranking.labels[i] if i < len(values) else "")
            for i in range(PAGE)
        ]  # fmt: skip
        start = {
            "run": run,
            "code": at.tolist(),
            "dims": ranking.dims.tolist(),
            "values": values,
            "mean": mean[ranking.dims].tolist(),
            "std": std[ranking.dims].tolist(),
            "context": None if context is None else context.tolist(),
        }
        return drawn, start, self._decoded(subject, at, context), *sliders

    def _code(self, subject: Subject, example: str) -> tuple[Tensor | None, Tensor | None]:
        """Code and context of an example; `None` for the prior's mean."""
        if not example.strip():
            return None, subject.contexts(1, "")
        position = whole(example, "the position", 0, len(subject.data.view(subject.split)) - 1)
        batch = subject.data.gather(subject.split, [position], subject.seed).to(subject.model.device)
        with evaluating(subject.model):
            code = mean_of(subject.model.encode(batch.x, batch.context))[0].cpu()
        return code, None if batch.context is None else batch.context.cpu()

    @answered
    def _move(self, run: str, split: Any, seed: float, start: dict[str, Any] | None, *values: float) -> Any:
        if start is None or start["run"] != run:
            raise ArgumentError("the latents belong to another run. Press Traverse first.")
        subject, code = subject_of(self.bench, run, split, seed), torch.tensor(start["code"])
        known = (start[name] for name in ("dims", "values", "mean", "std"))
        for dim, before, mean, std, value in zip(*known, values, strict=False):
            if value != before:  # what nobody has moved keeps its exact value
                code[dim] = mean + std * value
        context = None if start["context"] is None else torch.tensor(start["context"])
        return self._decoded(subject, code, context)

    @staticmethod
    def _decoded(subject: Subject, code: Tensor, context: Tensor | None) -> Any:
        return _one(subject, decode(subject.model, code[None], context), "decoded")


def _one(subject: Subject, x: Tensor, title: str, reference: Tensor | None = None) -> Any:
    """Picture of one example on the model's scale, perhaps below its original."""
    restore = subject.data.preparation.restore
    if subject.is_table:
        columns, said = _cells(subject, restore(x).double().numpy())
        return picture(lambda path: save_row(columns, path, said, title=title))
    above = None if reference is None else _large(restore(reference))
    return picture(lambda path: save_picture(_large(restore(x)), path, columns=1, reference=above, title=title))


def _cells(subject: Subject, row: np.ndarray) -> tuple[list[TableColumn], list[str]]:
    """Columns of a row `[1, D]` in the data, and its cells in words."""
    fields, came = subject.data.source.schema.fields, subject.some_rows
    if len(fields) == row.shape[1]:
        return columns_of(fields, came, row), cells_in_words(fields, row)
    names = subject.names or tuple(f"element {i + 1}" for i in range(row.shape[1]))  # rows whose elements are all alike
    columns = [TableColumn(name, came[:, i], row[:, i]) for i, name in enumerate(names)]
    return columns, [f"{value:.4g}" for value in row[0]]


def _large(x: Tensor) -> Tensor:
    """A single picture at a size at which one sees something."""
    factor = LARGE // max(x.shape[2:]) if x.ndim == 4 else 1
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3) if factor > 1 else x


@final
class MapTab:
    """A map of the codes of a split, on which a click shows the example.

    Args:
        bench: objects that the pages share.
        asked: widgets of the run, the split and the seed.
    """

    def __init__(self, bench: Bench, asked: list[Any]) -> None:
        self.bench = bench
        methods = ["pca", "t-sne", *(["umap"] if has_umap() else [])]
        with gr.Row():
            method = gr.Dropdown(
                methods, value="pca", label="Axes: principal components, or neighbours together", elem_id="map-method"
            )
            colours = [("classes", "classes"), ("ELBO", "elbo")]
            colour = gr.Dropdown(colours, value="classes", label="Colours", elem_id="map-colour")
        go = gr.Button("Draw the map", variant="primary", elem_id="map-go")
        with gr.Row():
            shown_map = image("Map of the codes on two axes", "map-image", scale=3)
            with gr.Column(scale=2):
                example = gr.Number(None, label="Position of an example", precision=0, elem_id="map-example")
                shown_one = image("An example and its reconstruction", "map-one")
        points = gr.State(None)
        go.click(self._draw, [*asked, method, colour], [shown_map, points], **HEAVY)
        shown_map.select(self._picked, points, example, **LIGHT)
        example.change(self._show, [*asked, example], shown_one, **LIGHT)

    @answered
    def _draw(self, run: str, split: Any, seed: float, method: Any, colour: Any) -> Any:
        subject = subject_of(self.bench, run, split, seed)
        found = code_map(subject.model, subject.data, split, subject.seed, method, colour)
        places: list[Any] = []
        drawn = picture(lambda path: places.append(found.draw(path)))
        return drawn, {"pixels": places[0].tolist(), "rows": found.rows.tolist()}

    @answered
    def _picked(self, points: dict[str, Any] | None, event: gr.SelectData) -> Any:
        if points is None:
            return gr.skip()
        place = np.asarray(event.index, dtype=np.float64)
        distance = ((np.asarray(points["pixels"]) - place) ** 2).sum(1)
        return points["rows"][int(distance.argmin())]

    @answered
    def _show(self, run: str, split: Any, seed: float, position: float | None) -> Any:
        if position is None:
            return gr.skip()
        subject = subject_of(self.bench, run, split, seed)
        row = whole(position, "the position", 0, len(subject.data.view(split)) - 1)
        batch, name = (
            subject.data.gather(split, [row], subject.seed),
            subject.data.names_at(split, torch.tensor([row]))[0],
        )
        if subject.is_table:
            return _one(subject, batch.x, name)
        return _one(subject, reconstruct(subject.model, batch.x, batch.context), name, batch.x)
