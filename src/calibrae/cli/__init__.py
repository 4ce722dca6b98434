"""The command line: parse, call one function, print."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `calibrae` command."""
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        import sys

        print("calibrae: the command line needs typer. Install it: pip install 'calibrae[all]'", file=sys.stderr)
        sys.exit(2)
    from ._main import main as run

    run()
