"""How the page binds its own events: not part of the API, not queued, without a spinner; and how it speaks up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from typing import Any

import gradio as gr
from gradio.blocks import Block

from studio.page import spoken

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
HIDDEN: dict[str, Any] = PRIVATE | {"show_progress": "hidden", "queue": False}

_CHANGES = {"change", "input", "key_up", "release"}

# What an event changes on the page: a component -> its new value, or gr.update(...).
Updates = dict[Block, Any]


def page() -> gr.Blocks:
    """The page that is being built."""
    building = gr.context.Context.root_block
    assert building is not None
    return building


_seen: ContextVar[tuple[Any, ...]] = ContextVar("_seen", default=())


@contextmanager
def seen_when(*triggers: Any) -> Iterator[None]:
    """What is drawn within is first seen when one of these happens, as when its tab is opened."""
    token = _seen.set(triggers)
    try:
        yield
    finally:
        _seen.reset(token)


def first_look() -> list[Any]:
    """When what is being drawn is first seen: what it needs of the studio can wait until then."""
    return [*_seen.get()] or [page().load]


def follow_to_the_last(page: gr.Blocks) -> None:
    """Let whatever follows what a person changes follow the last of it, too.

    Gradio leaves out what happens while an answer is awaited, unless an event's first trigger is a change: a number
    that is typed would be followed half, and a model chosen twice only once.
    """
    for event in page.fns.values():
        if event.trigger_mode == "once" and not _CHANGES.isdisjoint(name for _, name in event.targets):
            event.trigger_mode = "always_last"


def changed(updates: Updates) -> Any:
    """`updates` as an event with several outputs returns them: gradio takes no empty mapping."""
    return updates or gr.skip()


def mapping(value: Any) -> Mapping[str, Any]:
    """What a browser sent where a mapping belongs; empty for anything else."""
    return value if isinstance(value, Mapping) else {}


def script(name: str, *data: Any) -> str:
    """What gradio's `js` takes: function `name` of page.js, called with `data` and then with the event's inputs."""
    return f"(...values) => kinora.{name}({''.join(f'{json.dumps(one)}, ' for one in data)}...values)"


def warn(sentence: str) -> None:
    """A sentence over the page, shown as it is written: gradio would read it as HTML."""
    gr.Warning(escape(spoken.said(sentence)), title=spoken.said("Warning"))
