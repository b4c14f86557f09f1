"""The HTML of the page, made in one place from data. Everything given is text and is shown as it is written.

What people wrote themselves stands in elements with `translate="no"`: no translator, ours or a browser's, touches it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from engines.errors import InvalidRequest, Problem, StudioError

_LONG_SENTENCE = 240
_OWN = ' translate="no"'

Kind = Literal["empty", "waiting", "running", "done", "failed", "cancelled"]
Change = Literal["", "del", "ins"]
"""What becomes of some words: they stay, go or come; named as HTML names it."""


@dataclass(frozen=True)
class Card:
    """What goes on, in a few words.

    Attributes:
        step: how far its stage is, "5 of 20"; changes too often to be spoken.
        share: how much is done, 0..1; None where nobody knows.
        notes: sentences below.
    """

    kind: Kind
    title: str
    text: str = ""
    step: str = ""
    share: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One fact: what it is called, its value, perhaps the figure behind it, and whether it is what somebody wrote."""

    label: str
    value: str
    detail: str = ""
    own: bool = False


@dataclass(frozen=True)
class Line:
    """One sentence below a control. `mark` is "", or what sets it apart: "problem", "licence" or "command"."""

    text: str
    mark: str = ""


def card(shown: Card) -> str:
    """A card. What a screen reader speaks of it is for page.js to say: the card itself is made anew every second."""
    title = f'<b><span class="stage">{escape(shown.title)}</span>{f" · {escape(shown.step)}" if shown.step else ""}</b>'
    text = f"<p>{escape(shown.text)}</p>" if shown.text else ""
    bar = _bar(shown.share) if shown.kind == "running" else ""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in shown.notes)
    return f'<div class="card {shown.kind}">{title}{text}{bar}{notes}</div>'


def table(rows: Iterable[Row]) -> str:
    """Facts one below the other; "" without any."""
    cells = "".join(
        f'<tr><th scope="row">{escape(row.label)}</th><td{_OWN if row.own else ""}>{escape(row.value)}'
        f"{f'<small>{escape(row.detail)}</small>' if row.detail else ''}</td></tr>"
        for row in rows
    )
    return f'<table class="facts">{cells}</table>' if cells else ""


def lines(shown: Iterable[Line]) -> str:
    """Sentences below a control, empty ones left out."""
    return "".join(_line(line) for line in shown if line.text)


def estimate(colour: str, sentence: str) -> str:
    """What a clip will take: a dot in green, amber or red, and the sentence, which says the same without colours."""
    dot = f'<span class="dot {escape(colour)}" aria-hidden="true"></span>' if colour else ""
    return f'<p class="estimate-line" role="status">{dot}{escape(sentence)}</p>'


def section(title: str, help_: str) -> str:
    """The head of a group of controls."""
    return f"<h3>{escape(title)}</h3><p>{escape(help_)}</p>"


def brand(logo_svg: str, *, name: str, motto: str) -> str:
    """The head of the page; the logo is the page's own drawing and no text."""
    return f"{logo_svg}<div><h1>{escape(name)}</h1><p>{escape(motto)}</p></div>"


def chip(text: str, *, title: str = "") -> str:
    """A short text; `title` is told of it when it is pointed at."""
    told = f' title="{escape(title)}"' if title else ""
    return f"<span{told}>{escape(text)}</span>"


def being_written(text: str) -> str:
    """A suggestion that is not finished."""
    return f"<div class='refinement' aria-busy='true'><p class='suggestion'{_OWN}>{escape(text.strip())} …</p></div>"


def suggestion(changes: Iterable[tuple[Change, str]], reasons: Iterable[str]) -> str:
    """A suggestion, where it changes something, with what goes and comes marked, and the reasons below."""
    marked = [f"<{tag}>{escape(text)}</{tag}>" if tag else escape(text) for tag, text in changes if text]
    text = f"<p class='suggestion'{_OWN}>{' '.join(marked)}</p>" if marked else ""
    why = "".join(f"<li>{_folded(reason)}</li>" for reason in reasons)
    return f"<div class='refinement' role='status'>{text}<ul>{why}</ul></div>"


def _folded(sentence: str) -> str:
    """A sentence; one that goes on for long behind its colon shows what is there when it is opened."""
    head, colon, rest = sentence.partition(": ")
    if not colon or len(sentence) <= _LONG_SENTENCE:
        return escape(sentence)
    return f"<details><summary>{escape(head)}</summary>{escape(rest)}</details>"


def figure(png: bytes, *, alt: str, caption: str, frame: tuple[float, float] | None = None) -> str:
    """A small picture with its caption; `frame` are the shares of its sides that a frame to be dragged takes."""
    dragged = f' data-wide="{frame[0]:.4f}" data-high="{frame[1]:.4f}"' if frame else ""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return (
        f'<figure{dragged}><img src="{source}" alt="{escape(alt)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def below_the_brush(webp: bytes, strokes: str) -> str:
    """The picture that a cut-out is mended on with these strokes, kept on the page unseen: see mend.js."""
    source = f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
    return f'<template class="below" data-picture="{source}" data-strokes="{escape(strokes)}"></template>'


def component(name: str, shown: Any) -> str:
    """An element that the page's own JavaScript defines, with the data that it shows."""
    return f'<{name} data-shown="{escape(json.dumps(shown))}"></{name}>'


def made_of(text: str, pictures: Sequence[bytes], *, made_by: str) -> str:
    """What a clip is made of: its words, its pictures as small PNG files, and who made it."""
    shown = "".join(_given(one, f"Picture {number} of the clip") for number, one in enumerate(pictures, start=1))
    said = f"<p{_OWN}>{escape(text)}</p>" if text else ""
    return f'<div class="made-of">{shown}<div>{said}<p class="quiet">{escape(made_by)}</p></div></div>'


def _given(png: bytes, alt: str) -> str:
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{escape(alt)}">'


def refused(error: StudioError) -> str:
    """Why something was not done: every problem of a request, or the one sentence of any other failure."""
    return problems(error.problems if isinstance(error, InvalidRequest) else [Problem("", str(error))])


def problems(found: Sequence[Problem]) -> str:
    """Problems of a request beside the form: one as a sentence, several as a list."""
    if not found:
        return ""
    if len(found) == 1:
        return f'<p class="problems" role="alert">{escape(found[0].message)}</p>'
    items = "".join(f"<li>{escape(problem.message)}</li>" for problem in found)
    return f'<ul class="problems" role="alert">{items}</ul>'


def preview(webp: bytes, size: tuple[int, int]) -> str:
    """A clip of this width and height as it stands; a placeholder before there is one."""
    if not webp:
        return f'<div class="preview blank" style="{_shape(size)}" aria-hidden="true"></div>'
    return _moving(webp, size, alt="The clip as it stands")


def playback(webp: bytes, size: tuple[int, int]) -> str:
    """The finished part of a clip; "" before there is one."""
    if not webp:
        return ""
    shown = _moving(webp, size, alt="The finished part of the clip")
    return f'<figure class="playback">{shown}<figcaption>Finished so far</figcaption></figure>'


def physics(webp: bytes, size: tuple[int, int]) -> str:
    """A clip's physics as a moving picture that opens."""
    shown = _moving(webp, size, alt="The physics of the clip, as colours")
    said = "What the physics branch denoised beside the pictures: its three strongest directions as red, green and blue"
    return f'<details class="physics"><summary>Physics view</summary>{shown}<p class="quiet">{said}.</p></details>'


def _line(line: Line) -> str:
    if line.mark == "command":
        return f"<p><code>{escape(line.text)}</code></p>"
    role = ' class="problem" role="alert"' if line.mark == "problem" else f' class="{line.mark}"' if line.mark else ""
    return f"<p{role}>{escape(line.text)}</p>"


def _bar(share: float | None) -> str:
    percent = round(100 * (share or 0))
    known = f' aria-valuenow="{percent}"' if share is not None else ""
    inner = f'<i style="width:{percent}%"></i>' if share is not None else '<i class="unknown"></i>'
    return f'<div class="bar" role="progressbar" aria-label="Progress" aria-valuemax="100"{known}>{inner}</div>'


def _shape(size: tuple[int, int]) -> str:
    return f"--wide:{size[0]};--high:{size[1]}"


def _moving(webp: bytes, size: tuple[int, int], *, alt: str) -> str:
    image = f'<img src="data:image/webp;base64,{base64.b64encode(webp).decode()}" alt="{escape(alt)}">'
    return f'<div class="preview" style="{_shape(size)}">{image}</div>'
