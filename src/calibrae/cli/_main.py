"""The `calibrae` command: its parts, and how errors end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import typer.core

from .. import errors
from .._launched import is_alone, is_first
from .._optional import missing_extra
from . import _app, _assess, _audit, _beta, _bits, _cache, _draw, _evaluate, _report, _rows, _runs, _sweep, _train

USAGE_ERROR, INTERRUPTED, TERMINATED = 2, 130, 128 + signal.SIGTERM
PACKAGE = str(Path(__file__).parents[1])
NEGATIVE_NUMBERS = {"ignore_unknown_options": True}  # -2676.1 is a value and no option
# the base of all usage errors, from click or, since typer brings its own copy of it, from there
USAGE_ERRORS: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class _Terminated(KeyboardInterrupt):
    """A scheduler's signal to end, where nothing has to be saved: all is put in order, as after Ctrl-C."""

    code = TERMINATED


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does; a second one ends it at once.

    Of several processes, one whose neighbour is gone may wait for it: there the signal ends it at once, as it does by default.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not is_alone() or not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise _Terminated

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Commands(typer.core.TyperGroup):
    """Our commands; Ctrl-C is answered even where the work had nothing to say of it."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. An interrupt that carries a message has been told to the user; one of a run carries its exit code too."""
        try:
            with _terminable():
                return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            code = getattr(interrupt, "code", INTERRUPTED)
            if not str(interrupt):
                print(f"calibrae: stopped by {'Ctrl-C' if code == INTERRUPTED else 'a signal'}", file=sys.stderr)
            raise typer.Exit(code) from None


app = typer.Typer(
    name="calibrae",
    cls=Commands,
    help="Variational autoencoders whose objective is exact and whose numbers can be compared.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("train")(_train.train)
app.command("evaluate")(_evaluate.evaluate)
for command in (_draw.sample, _draw.reconstruct, _draw.encode, _draw.interpolate, _draw.traverse):
    app.command(command.__name__)(command)
app.command("impute")(_rows.impute)
app.command("diagnose")(_assess.diagnose)
app.command("score")(_assess.score)
app.command("sweep", context_settings=_sweep.SETTINGS)(_sweep.sweep)
app.command("audit")(_audit.audit)
app.command("beta")(_beta.beta)
app.command("bits", context_settings=NEGATIVE_NUMBERS)(_bits.bits)
app.command("app")(_app.app)
app.command("report")(_report.report)
app.command("runs")(_runs.runs)
app.command("cache")(_cache.cache)
app.command("self-test")(_evaluate.self_test)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"calibrae {metadata.version('calibrae')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Variational autoencoders whose objective is exact and whose numbers can be compared."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors are one line on standard error and exit code 2. Of several processes the first one prints."""
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 (until the process ends)
    try:
        with _warnings_as_notes():
            code = app(arguments, standalone_mode=False)
    except USAGE_ERRORS as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(USAGE_ERROR)
        _fail(error.format_message())
    except errors.CalibraeError as error:
        if errors.TOLD in getattr(error, "__notes__", ()):
            sys.exit(USAGE_ERROR)
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}. Check the path and its rights." if error.filename else str(error))
    except ModuleNotFoundError as error:
        _fail(str(missing_extra(error)))
    except (KeyboardInterrupt, typer.Abort):  # newer typer turns an interrupt into the exit code itself
        sys.exit(INTERRUPTED)
    else:
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Show what calibrae itself warns of as a note, without a line of its code."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
            if filename.startswith(PACKAGE):
                print(f"note: {message}", file=file or sys.stderr)
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _fail(message: str) -> None:
    print(f"calibrae: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(USAGE_ERROR)
