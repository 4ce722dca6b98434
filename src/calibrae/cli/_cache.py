"""`calibrae cache`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ._options import JsonFlag
from ._print import print_json

GIGABYTE = 1e9


def cache(
    empty: Annotated[bool, typer.Option("--empty", help="Remove all that can be made again.")] = False,
    runs_too: Annotated[
        bool,
        typer.Option("--runs-too", help="With --empty: also data from Python, of which runs have no other copy."),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Show what the cache holds, the longest unused first, or empty it."""
    from ..data import cache_entries, cache_limit, cache_root, empty_cache

    if runs_too and not empty:
        raise typer.BadParameter("--runs-too belongs to --empty. Write both, or neither.")
    removed = empty_cache(runs_too=runs_too) if empty else []
    entries, root, limit = cache_entries(), cache_root(), cache_limit()
    if json:
        listed = [{"name": e.path.name, "kind": e.kind, "bytes": e.size, "used": e.used} for e in entries]
        print_json({"place": str(root), "limit": limit, "removed": len(removed), "entries": listed})
        return
    if empty:
        typer.echo(f"removed {len(removed)} entries, {sum(e.size for e in removed) / GIGABYTE:.3f} GB")
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        typer.echo(f"{entry.size / GIGABYTE:9.3f} GB  used {used}  {entry.kind:12}  {entry.path.name}")
    total = sum(entry.size for entry in entries) / GIGABYTE
    typer.echo(
        f"{len(entries)} entries, {total:.3f} of {limit / GIGABYTE:g} GB in {root} (CALIBRAE_CACHE, CALIBRAE_CACHE_LIMIT)"
    )
