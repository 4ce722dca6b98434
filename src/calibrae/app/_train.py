"""The page *Train*: choose data, look at them, train, and watch."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path
from typing import Any, final

import gradio as gr

from .._optional import names_missing
from .._progress import watched
from ..data import NAMES, Data, DataOptions, load_data, whole_labels
from ..errors import ArgumentError, CalibraeError, RunError
from ..figures.page import curves_plot
from ..workflows import UNKNOWN, Progress, Training, draw_so_far, duration, examples, progress_of, save_picture
from ._bench import LIGHT, QUIET, Bench, Deadline, answered, command, image, picture, shown, whole
from ._options import Option, further_options, main_options, reading_options, train_arguments

LOOK_EVERY = 1.5  # seconds
DRAW_EVERY = 4.0  # seconds between two pictures of reconstructions
PREVIEWED = 24
NOT_A_WORD = re.compile(r"[^A-Za-z0-9._-]+")


@final
class TrainPage:
    """Widgets of the page, and what they do.

    Args:
        bench: objects that the pages share.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.options: list[Option] = [*main_options(), *further_options()]
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                self._ask()
            with gr.Column(scale=6, min_width=320):
                self._watch()
        self._connect()

    # -- widgets

    def _ask(self) -> None:
        gr.Markdown("## 1. Data")
        self.named = gr.Dropdown(
            list(NAMES), value="digits", allow_custom_value=True, label="Name, folder or file", elem_id="train-data"
        )
        self.files = gr.File(
            file_count="multiple", label="or send files (pictures, .npy, .csv, .parquet, or one .zip)", height=150
        )
        self.look = gr.Button("Look at the data", size="sm")
        self.about = gr.Markdown()
        self.preview = image("Some of the data", "train-preview", height=220)
        gr.Markdown("## 2. Model")
        self.name = gr.Textbox("", label="Name of the run (empty: the data's name and a number)", elem_id="train-name")
        self.widgets: list[Any] = []
        usual = main_options()
        for start in range(0, len(usual), 2):
            with gr.Row():
                self.widgets += [option.widget() for option in usual[start : start + 2]]
        with gr.Accordion("More", open=False):
            further = further_options()
            for start in range(0, len(further), 3):
                with gr.Row():
                    self.widgets += [option.widget() for option in further[start : start + 3]]
        gr.Markdown("## 3. Train")
        self.line = gr.Textbox(
            label="The command line that does this",
            buttons=["copy"],
            interactive=False,
            lines=2,
            elem_id="train-command",
        )
        self.go = gr.Button("Train", variant="primary", elem_id="train-go")

    def _watch(self) -> None:
        gr.Markdown("## Trainings")
        self.table = gr.HTML(elem_id="train-table")
        self.run = gr.Dropdown([], label="Watch (empty: the newest)", allow_custom_value=True, elem_id="train-watch")
        self.progress = gr.Markdown(elem_id="train-progress")
        self.plot = gr.Plot(label="Curves", show_label=False, visible=False, elem_id="train-curves")
        self.rebuilt = image("Validation examples above their reconstructions", "train-rebuilt", height=180)
        with gr.Row():
            self.stop = gr.Button("Stop", size="sm", elem_id="train-stop", min_width=80)
            self.resume = gr.Button("Go on", size="sm", elem_id="train-resume", min_width=80)
            self.more_epochs = gr.Textbox(
                "", label="Go on up to epoch (empty: as before)", elem_id="train-more", min_width=150
            )
        with gr.Accordion("Log", open=False):
            self.log = gr.Textbox(label="What the training printed", lines=12, interactive=False, max_lines=12)
        self.seen = gr.State({})
        self.timer = gr.Timer(LOOK_EVERY)

    def _connect(self) -> None:
        self.asked = asked = [self.named, self.files, self.name, *self.widgets]
        changes = [widget.change for widget in asked]
        gr.on(changes, self._line, asked, self.line, trigger_mode="always_last", **QUIET)  # the last word counts
        self.look.click(self._look, [self.named, self.files, *self.widgets], [self.about, self.preview], **LIGHT)
        self.go.click(self._go, asked, [self.run, self.name, self.named, self.files], **LIGHT)
        self.stop.click(self._stop, self.run, None, **LIGHT)
        self.resume.click(self._resume, [self.run, self.more_epochs], None, **LIGHT)
        watched = [self.run, self.table, self.progress, self.plot, self.rebuilt, self.log, self.seen]
        self.timer.tick(self._tick, [self.run, self.seen], watched, **QUIET)

    def first(self) -> tuple[Any, ...]:
        """Event that fills in the command line when somebody opens the page, with its inputs and its output."""
        return self._line, self.asked, self.line

    # -- events

    def _line(self, named: str, files: list[str] | None, name: str, *values: Any) -> str:
        try:
            data = "FILES" if files else self.bench.data_place(named, None)
            out = self.bench.shelf.new(name.strip() or _suggested(data, self._taken()))
            return command(*train_arguments(data, str(out), self.options, values))
        except CalibraeError as error:
            return f"# {error}"

    @answered
    @names_missing
    def _look(self, named: str, files: list[str] | None, *values: Any) -> Any:
        options = reading_options(self.options, values)
        with watched(Deadline()):
            data = load_data(self.bench.data_place(named, files, options), DataOptions(**options))
        return _described(data, self.bench), _previewed(data)

    @answered
    def _go(self, named: str, files: list[str] | None, name: str, *values: Any) -> Any:
        data = self.bench.data_place(named, files, reading_options(self.options, values))
        chosen = name.strip() or _suggested(Path(data).stem if files else data, self._taken())
        out = self.bench.shelf.new(chosen)
        if out.exists():
            raise ArgumentError(
                f"{chosen} is there already. Choose another name, or delete that run on the page Manage."
            )
        self.bench.queue.add(chosen, train_arguments(data, str(out), self.options, values))
        return self._choices(chosen), "", data, None

    @answered
    def _stop(self, run: str | None) -> None:
        chosen = self._chosen(run)
        gr.Info(self.bench.queue.stop(chosen), title=shown(chosen))

    @answered
    def _resume(self, run: str | None, epochs: str) -> None:
        run = self._chosen(run)
        path = self.bench.shelf.place(run)
        source = self.bench.shelf.config(run)["data"].get("source")
        self.bench.require_allowed(source)
        if source is None:
            raise RunError(f"{run} was trained on data from Python, so only Python can go on with it.")
        more = ["--epochs", str(whole(epochs, "epochs", 1, 10**6))] if epochs.strip() else []
        self.bench.queue.add(run, ["train", source, "--out", str(path), "--resume", *more])

    def _tick(self, run: str | None, seen: dict[str, Any]) -> Any:
        """Whatever has changed since the last look; nothing else is sent, and never a choice: somebody may be choosing."""
        entries = self.bench.queue.entries()
        now = {entry.run: entry for entry in entries}
        states = tuple((entry.key, entry.state) for entry in entries)
        known = self._known(entries)
        chosen = run if run in known else next(iter(known), None)
        table = gr.skip() if seen.get("states") == states and not _goes_on(entries) else _table(entries, self._progress)
        picker = gr.skip() if seen.get("known") == known else gr.update(choices=known)
        fresh = {**seen, "states": states, "known": known, "run": chosen}
        if chosen is None:
            return picker, table, "Nothing has been trained here yet.", gr.skip(), gr.skip(), gr.skip(), fresh
        about = self._progress(chosen)
        epochs = len(about.history) if about is not None else 0
        is_new = (chosen, epochs) != (seen.get("run"), seen.get("epochs"))
        fresh["epochs"] = epochs
        plot = _curves(about) if is_new else gr.skip()
        image, fresh = self._image(chosen, epochs, fresh, seen)
        said = _sentence(chosen, now.get(chosen), about)
        return picker, table, said, plot, image, self.bench.queue.log(chosen), fresh

    def _known(self, entries: list[Training]) -> list[str]:
        """Runs that can be watched: those of the queue first, the newest at the top, then all others."""
        there = self.bench.shelf.names()
        queued = [entry.run for entry in reversed(entries) if entry.state != "ended" or entry.run in there]
        return [*dict.fromkeys([*queued, *there])]

    def _image(self, run: str, epochs: int, fresh: dict[str, Any], seen: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Reconstructions, if there is something new to see and the last are some time ago."""
        drawn = (run, epochs)
        is_other = seen.get("drawn", ("", 0))[0] != run
        if drawn == seen.get("drawn") or (not is_other and time.time() - seen.get("drawn_at", 0.0) < DRAW_EVERY):
            return gr.skip(), fresh
        fresh |= {"drawn_at": time.time()}
        if not epochs:
            return gr.update(value=None, visible=False), fresh | {"drawn": drawn}
        try:
            return picture(partial(draw_so_far, self.bench.shelf.place(run))), fresh | {"drawn": drawn}
        except (CalibraeError, OSError):  # the training replaces its files while we look
            return gr.skip(), fresh

    # -- parts

    def _progress(self, run: str) -> Progress | None:
        try:
            return progress_of(self.bench.shelf.place(run))
        except (CalibraeError, OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError):  # damaged
            return None

    def _taken(self) -> list[str]:
        return [*self.bench.shelf.names(), *(entry.run for entry in self.bench.queue.entries())]

    def _choices(self, chosen: str) -> Any:
        return gr.update(choices=[chosen, *self._known(self.bench.queue.entries())], value=chosen)

    def _chosen(self, run: str | None) -> str:
        """The training that was chosen; the newest, which shows, if none was.

        Raises:
            RunError: if there is none of that name, or none at all.
        """
        known = self._known(self.bench.queue.entries())
        if not known:
            raise RunError("nothing has been trained here yet.")
        if run and run not in known:
            raise RunError(f"{run} is not there. Choose a training under Watch.")
        return run or known[0]


def _suggested(data: str, taken: list[str]) -> str:
    """A free name that is like the data's."""
    base = NOT_A_WORD.sub("-", Path(data.rstrip("/")).stem).strip("-.")[:60] or "run"
    return next(name for i in range(1, 10**6) if (name := base if i == 1 else f"{base}-{i}") not in taken)


def _described(data: Data, bench: Bench) -> str:
    """Sizes, scale, splits and notes of data."""
    shape = " x ".join(map(str, data.spec.data_shape))
    sizes = ", ".join(f"{len(view):,} {split}" for split, view in data.views.items())
    lines = [f"**{shown(bench.unplaced(data.source.name))}**: {shape}, {shown(data.spec.scale)}; {sizes}"]
    lines += [f"* {split}: {shown(where)}" for split, where in data.provenance.items()]
    lines += bench.noted(data.source.notes)
    if names := whole_labels(data.source):
        lines.append(f"* can be a condition: {shown(', '.join(names))}")
    return "\n".join(lines)


def _previewed(data: Data) -> Any:
    count = 500 if len(data.spec.data_shape) == 1 else PREVIEWED
    chosen = examples(data, "train", min(count, len(data.view("train"))))
    x = data.preparation.restore(chosen.x)
    title = f"{len(x)} training examples"
    return picture(lambda path: save_picture(x, path, columns=8, names=data.source.columns, title=title))


def _goes_on(entries: list[Training]) -> bool:
    return any(entry.state == "training" for entry in entries)


def _table(entries: list[Training], progress: Any) -> str:
    rows = []
    for entry in reversed(entries[-12:]):
        about = progress(entry.run) if entry.state == "training" else None
        done = "" if about is None else f"{len(about.history)} of {'at most ' * about.is_at_most}{about.epochs}"
        left = "" if about is None or about.seconds_left is None else duration(about.seconds_left)
        rows.append(
            f"<tr><th scope=row>{shown(entry.run)}</th><td>{_outcome(entry)}</td><td>{done}</td><td>{left}</td></tr>"
        )
    body = "".join(rows) or "<tr><td colspan=4>none yet</td></tr>"
    head = "".join(f"<th scope=col>{name}</th>" for name in ("run", "state", "epochs", "time left"))
    return f"<table class='plain'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _outcome(entry: Training) -> str:
    """State of a training in a few words; how it ended, by the exit code."""
    if entry.state != "ended":
        return entry.state
    words = {
        0: "done",
        2: "not possible: see the log",
        75: "stopped: its time is over",
        -15: "stopped before it began",
        130: "stopped",
        143: "stopped",
        UNKNOWN: "ended",
    }
    return words.get(entry.code or 0, f"ended with code {entry.code}: see the log")


def _sentence(run: str, entry: Training | None, about: Progress | None) -> str:
    """State of a training in one line."""
    state = "ended" if entry is None else entry.state
    if about is None or not about.history:
        waits = {"waiting": "it waits for its turn", "training": "it is getting ready ..."}
        return (
            f"**{shown(run)}**: {waits.get(state) or ('there is nothing to see' if entry is None else _outcome(entry))}"
        )
    last = about.history[-1]
    parts = [f"epoch {len(about.history)} of {'at most ' if about.is_at_most else ''}{about.epochs}"]
    if "validation_elbo" in last:
        parts.append(f"ELBO {last['validation_elbo']:.2f} nats")
    parts += [
        f"{label} {last[name]:.4g}" for name, label in (("validation_kl", "KL"), ("sigma", "sigma")) if name in last
    ]
    is_over = len(about.history) >= about.epochs or about.state == "finished"
    if state == "training" or about.state == "training":
        left = about.seconds_left
        parts.append("drawing pictures and the report" if is_over else "" if left is None else f"{duration(left)} left")
    else:
        parts.append(about.state)
    return f"**{shown(run)}**: {', '.join(part for part in parts if part)}"


def _curves(about: Progress | None) -> Any:
    if about is None or not about.history:
        return gr.update(value=None, visible=False)
    import plotly.graph_objects as go

    plot = curves_plot(about.history)
    look = {
        "margin": {"l": 50, "r": 10, "t": 10, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
    figure = go.Figure(plot["data"], {**plot["layout"], **look, "height": plot["height"], "font": {"color": "#808790"}})
    figure.update_xaxes(gridcolor="rgba(128,128,128,.25)", zeroline=False)
    figure.update_yaxes(gridcolor="rgba(128,128,128,.25)", zeroline=False)
    return gr.update(value=figure, visible=True)
