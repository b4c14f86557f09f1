"""Clips made inside of an event of the page, where no worker makes them: see studio/jobs/in_event.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from studio.page.plumbing import PRIVATE
from studio.page.visitor import visitor
from studio.service import Studio


def follow(studio: Studio, event: Dependency, browser: gr.BrowserState) -> None:
    """Let an event that may queue clips be followed by one that makes them; nothing where workers do."""
    if studio.settings.in_event:
        event.then(partial(make, studio), browser, None, show_progress="hidden", concurrency_limit=None, **PRIVATE)


def make(studio: Studio, browser: Any) -> Iterator[None]:
    """Make what waits of this visitor and is no other event's. Closed, it leaves nothing of that waiting."""
    jobs = studio.store.queued(owner=visitor(studio, browser)["owner"])
    with closing(studio.executor.attend(jobs)) as attended:
        yield from attended
