"""A page of the workbench without a server."""

import asyncio
from contextlib import contextmanager
from unittest import mock

import gradio as gr
import pytest


@contextmanager
def _blocks():
    """A page whose event loops are closed at the end; Gradio leaves them open."""
    made, new = [], asyncio.new_event_loop

    def noted():
        made.append(new())
        return made[-1]

    with mock.patch("asyncio.new_event_loop", noted), gr.Blocks():
        yield
    for loop in made:
        loop.close()


@pytest.fixture(scope="session")
def blocks():
    """Context in which a page can be made."""
    return _blocks
