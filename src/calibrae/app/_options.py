"""Options of `calibrae train` as widgets, and the command line that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import gradio as gr

from .._registry import names
from ..errors import ArgumentError
from ..functional.conventions import catalogue
from ..models import PRESETS
from ..networks import NETWORKS

USUAL = "model's own"


@final
@dataclass(frozen=True)
class Option:
    """An option of `calibrae train`.

    Attributes:
        name: name of the option, with `_`.
        label: name of it on the page.
        value: default, which is not written on the command line.
        info: its meaning.
        choices: words to choose from; `None` for free text or a switch.
        is_free: whether other words may be typed.
        kind: `int` or `float` for a number.
    """

    name: str
    label: str
    value: Any = ""
    info: str = ""
    choices: Sequence[str] | None = None
    is_free: bool = False
    kind: type = str

    def widget(self) -> Any:
        """The widget."""
        how: dict[str, Any] = {"label": self.label, "info": self.info or None, "elem_id": f"train-{self.name}"}
        if isinstance(self.value, bool):
            return gr.Checkbox(self.value, **how)
        if self.choices is not None:
            return gr.Dropdown(list(self.choices), value=self.value, allow_custom_value=self.is_free, **how)
        return gr.Textbox(str(self.value), **how)

    def words(self, value: Any) -> list[str]:
        """Words of the command line; none for the default.

        Raises:
            ArgumentError: for text that would be taken for another option.
        """
        if isinstance(self.value, bool):
            return [f"--{self.name.replace('_', '-')}"] if value else []
        text = "" if value is None else str(value).strip()
        if text in ("", str(self.value)):
            return []
        if text.startswith("--") or "\x00" in text or len(text) > 500:
            raise ArgumentError(f"{self.label} must be a value; got {text[:60]!r}.")
        try:
            self.kind(text)
        except ValueError:
            what = "whole number" if self.kind is int else "number"
            raise ArgumentError(f"{self.label} must be a {what}; got {text[:60]!r}.") from None
        return [f"--{self.name.replace('_', '-')}", text]


def main_options() -> list[Option]:
    """Options that everybody looks at."""
    return [
        Option("model", "Model", "sigma-vae", "sigma-vae calibrates the decoder's scale", list(PRESETS)),
        Option("latent_dim", "Latent dimensions", "50", "d", kind=int),
        Option("sigma", "Sigma", USUAL, "scale of the decoder: optimal, learned, or a number", [USUAL, "optimal", "learned", "0.1"], is_free=True),
        Option("epochs", "Epochs", "", "empty: until the validation loss has settled", kind=int),
    ]  # fmt: skip


def further_options() -> list[Option]:
    """Options that are folded away."""

    def parts(kind: str) -> list[str]:
        return [USUAL, *names(kind)]

    return [
        Option("network", "Network", "auto", "", list(NETWORKS)),
        Option("likelihood", "Likelihood", "gaussian", "of an element", names("likelihood"), is_free=True),
        Option("prior", "Prior", USUAL, "mixture:components=8, ...", parts("prior"), is_free=True),
        Option("posterior", "Posterior", USUAL, "", parts("posterior"), is_free=True),
        Option("objective", "Objective", USUAL, "iwae:samples=5, ...", parts("objective"), is_free=True),
        Option("beta", "Beta", "", "weight of the KL; empty: the model's", kind=float),
        Option("beta_convention", "Convention of beta", "nll", "the loss in which it is written", list(catalogue())),
        Option("kl_warmup", "KL warm-up", "", "share of the steps over which beta rises, as 0.3", kind=float),
        Option("sigma_shared", "Sigma shared over", "all", "", ["all", "channel", "element"]),
        Option("hidden", "Hidden widths of an mlp", "512,512"),
        Option("width", "Channels of a conv net", "48", kind=int),
        Option("batch_size", "Batch size", "64", kind=int),
        Option("lr", "Learning rate", "0.004", "its peak", kind=float),
        Option("patience", "Patience", "0", "epochs without progress before stopping; 0: never", kind=int),
        Option("max_minutes", "Minutes at most", "", "then it saves and stops", kind=float),
        Option("seed", "Seed", "0", kind=int),
        Option("size", "Size of pictures", "", "H,W to which they are brought"),
        Option("levels", "Levels", "", "integer values that an element can take", kind=int),
        Option("data_range", "Range", "", "LO,HI of float data"),
        Option("condition", "Condition", "", "class, label, a column, or columns: age, sex"),
        Option("binarise", "Binarise grey values", value=False),
        Option("horizontal_flip", "Mirror at random", value=False),
        Option("skip_broken", "Leave out files that cannot be read", value=False),
    ]


def train_arguments(data: str, out: str, options: Sequence[Option], values: Sequence[Any]) -> list[str]:
    """Arguments of `calibrae` for a training.

    Raises:
        ArgumentError: if a value cannot be one.
    """
    given = [word for option, value in zip(options, values, strict=True) for word in _usual(option, value)]
    return ["train", data, "--out", out, *given]


def _usual(option: Option, value: Any) -> list[str]:
    return [] if value == USUAL else option.words(value)


def reading_options(options: Sequence[Option], values: Sequence[Any]) -> Mapping[str, Any]:
    """What the widgets say of how data are read.

    Raises:
        ArgumentError: if a pair or a number cannot be read.
    """
    given = {option.name: value for option, value in zip(options, values, strict=True)}
    found: dict[str, Any] = {"binarise": bool(given["binarise"]), "skip_broken": bool(given["skip_broken"])}
    try:
        if given["size"]:
            height, width = (int(part) for part in str(given["size"]).split(","))
            found["size"] = (height, width)
        if given["data_range"]:
            low, high = (float(part) for part in str(given["data_range"]).split(","))
            found["data_range"] = (low, high)
        if given["levels"]:
            found["levels"] = int(given["levels"])
    except ValueError:
        raise ArgumentError("a size must be H,W as in 64,64; a range LO,HI as in 0,1; levels a whole number.") from None
    if given["condition"]:
        names = [name.strip() for name in str(given["condition"]).split(",") if name.strip()]
        found["condition"] = names if len(names) > 1 else str(given["condition"])
    return found
