"""The workbench as a server."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, CalibraeError, MissingExtraError
from ..workflows import Queue, forget_uploads

PREFIX = "calibrae-app-"  # of temporary folders
MOST = 4 << 30  # bytes of a request
ADVANCE_EVERY = 0.5  # seconds
EARLY = (
    "datasets", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.colors", "matplotlib.figure", "matplotlib.patches", "matplotlib.ticker",
    "plotly.graph_objects", "psutil", "pyarrow", "scipy.stats", "sklearn.datasets", "sklearn.manifold", "torch._dynamo",
)  # fmt: skip
NAMED = re.compile(r"[0-9a-f-]+\.html")


def workbench(
    folder: str | Path = "runs",
    *,
    queue: Queue | None = None,
    hosts: frozenset[str] | None = None,
    token: str | None = None,
    allow_audit: bool = False,
) -> Any:
    """The workbench as an ASGI application.

    Args:
        folder: folder of the runs.
        queue: its trainings, which somebody must advance.
        hosts: names by which it may be called; by default those of a loopback.
        token: secret that the first address carries, for those beyond a loopback.
        allow_audit: whether losses that users send may be run.

    Raises:
        MissingExtraError: if Gradio is not installed.
        ArgumentError: if the folder cannot be written.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio is imported
    try:
        import gradio as gr
    except ImportError as error:
        raise MissingExtraError("the workbench needs Gradio. Install it: pip install 'calibrae[app]'") from error
    from fastapi import FastAPI
    from fastapi.responses import FileResponse, PlainTextResponse

    from ._bench import Bench
    from ._compare import PAGES
    from ._guard import LOOPBACK, Guard
    from ._page import CSS, build, theme

    _import_early()
    is_local = token is None
    bench = Bench.of(folder, queue or Queue(folder), may_audit=allow_audit, is_local=is_local)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/pages/{name}")
    def page(name: str) -> Any:
        place = bench.folder / PAGES / name
        if NAMED.fullmatch(name) is None or not place.is_file():
            return PlainTextResponse("calibrae: there is no such page; make it again.\n", status_code=404)
        return FileResponse(place, media_type="text/html")

    blocks = build(bench)
    blocks.queue(max_size=64, default_concurrency_limit=2, api_open=False)
    gr.mount_gradio_app(app, blocks, path="", footer_links=[], theme=theme(), css=CSS, max_file_size=MOST, pwa=False, show_error=False, ssr_mode=False)  # fmt: skip
    return Guard(app, hosts or LOOPBACK, token, MOST)


def _import_early() -> None:
    """Import what answers would import when they first need it: two threads that import packages which share others can wait for each other."""
    for name in EARLY:
        with suppress(ImportError):  # whoever needs it says so
            importlib.import_module(name)


def serve(
    folder: str | Path = "runs",
    *,
    host: str = "127.0.0.1",
    port: int = 4896,
    allow_audit: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the workbench until it is interrupted. Trainings that go on are left alone.

    Args:
        folder: folder of the runs.
        host: address to listen on; beyond a loopback, the address that is printed carries a token.
        port: port; 0 for any that is free.
        allow_audit: whether losses that users send may be run.
        say: told where it is.

    Raises:
        CalibraeError: if the folder, the host or the port cannot be used.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is put in order then, too
    with _bound(host, port) as bound, tempfile.TemporaryDirectory(prefix=PREFIX) as temporary:
        os.environ["GRADIO_TEMP_DIR"] = temporary  # what is sent lies where nobody else looks, and goes with the server
        token = None if _is_loopback(host) else secrets.token_urlsafe(24)
        hosts = None if token is None else _names_of(host)
        queue, ended = Queue(folder), threading.Event()
        app = workbench(folder, queue=queue, hosts=hosts, token=token, allow_audit=allow_audit)
        with queue.held():
            _take_place_of(queue.folder / "temporary", temporary)
            forget_uploads(folder, [entry.arguments[1] for entry in queue.entries() if len(entry.arguments) > 1])
            runner = threading.Thread(target=_advance, args=(queue, ended), name="calibrae-queue", daemon=True)
            runner.start()
            reached = _reached(host)
            shown = f"[{reached}]" if ":" in reached else reached
            address = f"http://{shown}:{bound.getsockname()[1]}/" + ("" if token is None else f"?token={token}")
            say(f"calibrae: the workbench for {folder} is at {address} (Ctrl-C ends it; trainings go on)")
            try:
                with suppress(KeyboardInterrupt):
                    _run(app, bound)
            finally:
                ended.set()
                runner.join()


def _take_place_of(note: Path, temporary: str) -> None:
    """Remove the temporary folder of a server that was killed, which a note names, and note the one of this server."""
    with suppress(OSError, ValueError):
        left = Path(note.read_text(encoding="utf-8").strip())
        if left.parent == Path(tempfile.gettempdir()) and left.name.startswith(PREFIX):
            shutil.rmtree(left, ignore_errors=True)
    note.write_text(temporary, encoding="utf-8")


def _run(app: Any, bound: socket.socket) -> None:
    """Answer until Ctrl-C or SIGTERM, which uvicorn passes on as `KeyboardInterrupt` once all is closed."""
    import uvicorn

    logging.getLogger("uvicorn.error").addFilter(_is_news)

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="on", timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[bound])


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line of the log is more than that the pages which were open at the end are closed now."""
    kind = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
    is_closing = kind is not None and issubclass(kind, asyncio.CancelledError)
    return not is_closing and "graceful shutdown" not in record.getMessage()


def _advance(queue: Queue, ended: threading.Event) -> None:
    """Begin what waits, until the server ends."""
    while not ended.wait(ADVANCE_EVERY):
        with suppress(CalibraeError, OSError):
            queue.advance()


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(64)  # who comes before the server is ready waits
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ArgumentError(
            f"{host} port {port} cannot be listened on: {why}. Choose another --port or --host."
        ) from error
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names_of(host: str) -> frozenset[str]:
    """Names by which a machine can be called that listens on an address."""
    own = {"127.0.0.1", "localhost", "::1", host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(own | {address.lower() for address in _addresses()})


def _addresses() -> list[str]:
    """Addresses of this machine's networks, without loopbacks and those that are good on one link only."""
    import psutil

    every = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]
    return [address for address in every if not _is_loopback(address) and not address.lower().startswith("fe80")]


def _reached(host: str) -> str:
    """Address by which others reach a machine that listens on an address."""
    if host not in ("0.0.0.0", "::"):  # noqa: S104 (told apart, not listened on)
        return host
    wanted = 6 if host == "::" else 4
    own = [address for address in _addresses() if ipaddress.ip_address(address).version == wanted]
    return own[0] if own else host
