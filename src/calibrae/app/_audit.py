"""The page *Audit*: a loss of the user's own, run in a process with limits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import final

import gradio as gr

from ..errors import ArgumentError
from ._bench import HEAVY, Bench, answered, shape_of, whole
from ._limited import run_command

MOST = 1 << 20  # bytes of a file
OFF = (
    "Auditing runs the code of a file that somebody sends. It is off. Start the workbench with `--allow-audit` if only people whom you "
    "trust can reach it (it is no sandbox), or use the command line: `calibrae audit FILE.py:FUNCTION --data-shape 3,64,64 --latent-dim 128`."
)


@final
class AuditPage:
    """Widgets of the page, and what they do.

    Args:
        bench: objects that the pages share.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        if not bench.may_audit:
            gr.Markdown(OFF, elem_id="audit-off")
            return
        with gr.Row():
            file = gr.File(label="Python file with the loss", file_types=[".py"], height=150, elem_id="audit-file")
            with gr.Column():
                function = gr.Textbox("loss", label="Function: loss(x, x_hat, mu, logvar)")
                shape = gr.Textbox("3,64,64", label="Shape of an example")
            with gr.Column():
                latents = gr.Number(128, label="Latent dimensions", precision=0)
                batch = gr.Number(64, label="Batch size", precision=0)
            with gr.Column():
                x_hat = gr.Dropdown(["data", "probs", "logits", "logp"], value="data", label="The loss is given")
                posterior = gr.Dropdown(
                    ["logvar", "log_std", "std", "var"], value="logvar", label="Its fourth argument is"
                )
        go = gr.Button("Audit", variant="primary", elem_id="audit-go")
        answer = gr.Textbox(
            label="What it computes, and what is wrong with it",
            lines=24,
            interactive=False,
            elem_id="audit-answer",
            elem_classes="fixed",
            buttons=["copy"],
        )
        go.click(self._audit, [file, function, shape, latents, batch, x_hat, posterior], answer, **HEAVY)

    @answered
    def _audit(
        self, file: str | None, function: str, shape: str, latents: float, batch: float, x_hat: str, posterior: str
    ) -> str:
        if file is None or Path(file).stat().st_size > MOST:
            raise ArgumentError("choose a Python file of at most 1 MB with the loss.")
        if not all(part.isidentifier() for part in (function or "").split(".")):
            raise ArgumentError(f"the function must be a name, as in loss; got {(function or '')[:60]!r}.")
        d, b = whole(latents, "latent dimensions", 1, 100_000), whole(batch, "the batch size", 2, 4096)
        sizes = ",".join(map(str, shape_of(shape)))
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "sent.py"
            place.write_bytes(Path(file).read_bytes())
            asked = [
                "audit",
                f"{place}:{function}",
                "--data-shape",
                sizes,
                "--latent-dim",
                str(d),
                "--batch-size",
                str(b),
            ]
            return run_command([*asked, "--x-hat", x_hat, "--posterior", posterior], folder)
