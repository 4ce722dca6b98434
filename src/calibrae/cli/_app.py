"""`calibrae app`."""

from __future__ import annotations

from typing import Annotated

import typer


def app(
    folder: Annotated[str, typer.Argument(help="Folder of the runs; made if it is not there.")] = "runs",
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.", min=0, max=65535)] = 4896,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Beyond 127.0.0.1 the address that is printed carries a token.")
    ] = "127.0.0.1",
    allow_audit: Annotated[
        bool,
        typer.Option("--allow-audit", help="Let those who reach it run losses that they send, in a child process."),
    ] = False,
) -> None:
    """Open the workbench: train, explore, compare and score in the browser."""
    from ..app import serve

    serve(folder, host=host, port=port, allow_audit=allow_audit, say=typer.echo)
