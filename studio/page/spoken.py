"""The language of the page: what leaves it for a browser is said in that browser's language, at this one edge.

Everything below says its sentences in English. A component's words (its label, its help, its choices, the HTML that
markup.py made) are translated here on their way out, in the page as it is first asked for and in what events change;
what people wrote themselves stays: it is no such word, or stands in an element with `translate="no"`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from html import escape, unescape
from html.parser import HTMLParser
from typing import Any

from studio.catalogue import Catalogue, catalogue
from studio.language import CATALOGUES, ENGLISH, tag

# The words of a component, by its property. Values are words only of these kinds of components.
_WORDS = ("label", "info", "placeholder", "submit_btn", "stop_btn")
_SPEAKING = {"button", "markdown", "html"}
_OF_CARDS = ("failed", "cancelled", "picture", "made from", "became")  # the words of a gallery's captions
_ATTRIBUTES = ("alt", "title", "aria-label", "placeholder")
# Names under which data for the page's own elements hold words.
_DATA = frozenset({"label", "values", "short", "summary", "about", "line"})
_VOID = {"img", "input", "br", "hr", "path", "circle", "rect", "meta", "link"}

OWN_WORDS = "own-words"
"""The class of a list whose choices people named themselves."""

_asked: ContextVar[str] = ContextVar("_asked", default=ENGLISH)
"""The language of the request that is being answered."""


def asked(language: str) -> Any:
    """From here on in this context, a request in this language is answered."""
    return _asked.set(language)


def current() -> str:
    """The language that is asked for."""
    return _asked.get()


def _known(language: str) -> Catalogue | None:
    return catalogue(CATALOGUES[language]) if language in CATALOGUES else None


def said(text: str) -> str:
    """A sentence in the language that is asked for."""
    known = _known(current())
    return known.said(text) if known else text


def config(whole: Mapping[str, Any], *, setting: str) -> Mapping[str, Any]:
    """The page as gradio describes it, in the language that is asked for; `setting` is what the studio is set to."""
    known = _known(current())
    words = known.browser if known else {}
    told = dict(whole) | {"kinora": {"setting": setting, "language": tag(current()), "words": words}}
    if known is None:
        return told
    components = [
        one | {"props": changes(known, one.get("type", ""), one["props"])} if "props" in one else one
        for one in whole["components"]
    ]
    return told | {"components": components}


def outputs(block_fn: Any, data: Any) -> Any:
    """What an event changes on the page, in the language that is asked for."""
    known = _known(current())
    if known is None or not isinstance(data, list):
        return data
    return [
        _output(known, type(block).__name__.lower(), one, own=OWN_WORDS in (getattr(block, "elem_classes", None) or ()))
        for block, one in zip(block_fn.outputs, data, strict=False)
    ] + data[len(block_fn.outputs) :]  # fmt: skip


def _output(known: Catalogue, kind: str, value: Any, *, own: bool) -> Any:
    if isinstance(value, Mapping) and value.get("__type__") == "update":
        return changes(known, kind, value) | ({"choices": value["choices"]} if own and "choices" in value else {})
    return _value(known, kind, value)


def changes(known: Catalogue, kind: str, props: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of a component of this kind, their words in the catalogue's language."""
    changed = dict(props)
    for name in _WORDS:
        if isinstance(changed.get(name), str):
            changed[name] = known.said(changed[name])
    if isinstance(changed.get("headers"), list | tuple):
        changed["headers"] = [known.said(one) for one in changed["headers"]]
    if isinstance(changed.get("choices"), list | tuple):
        changed["choices"] = [_choice(known, one) for one in changed["choices"]]
    if "value" in changed:
        changed["value"] = _value(known, kind, changed["value"])
    return changed


def _choice(known: Catalogue, choice: Any) -> Any:
    """What people read of a choice; its value stays."""
    if isinstance(choice, list | tuple) and len(choice) == 2 and isinstance(choice[0], str):
        return [known.said(choice[0]), choice[1]]
    return choice


def _value(known: Catalogue, kind: str, value: Any) -> Any:
    if kind == "gallery" and isinstance(value, list):
        return [_card(known, one) for one in value]
    if kind == "dataframe" and isinstance(value, Mapping) and isinstance(value.get("headers"), list):
        return dict(value) | {"headers": [known.said(one) for one in value["headers"]]}
    if kind not in _SPEAKING or not isinstance(value, str):
        return value
    if kind != "html":
        return known.said(value)
    return data(known, value) if value.startswith("{") else html(known, value)


def _card(known: Catalogue, card: Any) -> Any:
    """A card of a gallery: how many clips it stands for and how long they are, but not what somebody wrote."""
    if not isinstance(card, Mapping) or not isinstance(card.get("caption"), str):
        return card
    parts = card["caption"].split(" · ")
    shown = [known.said(part) if any(map(str.isdigit, part)) or part in _OF_CARDS else part for part in parts]
    return dict(card) | {"caption": " · ".join(shown)}


def data(known: Catalogue, text: str) -> str:
    """JSON that an element of the page's own shows."""
    found = known.data(json.loads(text), _DATA)
    return json.dumps(_buttons(known, found), ensure_ascii=False).replace("<", "\\u003c")


def _buttons(known: Catalogue, value: Any) -> Any:
    """A title is a word of ours only beside the label of a button; else it is somebody's prompt, or stands for one."""
    if isinstance(value, dict):
        told = {name: _buttons(known, held) for name, held in value.items()}
        ours = "label" in told or told.get("title") == "A clip without a prompt"
        return told | ({"title": known.said(told["title"])} if ours and isinstance(told.get("title"), str) else {})
    return [_buttons(known, one) for one in value] if isinstance(value, list) else value


def html(known: Catalogue, text: str) -> str:
    """HTML of markup.py with its texts translated, but for those in elements that say translate="no"."""
    if "<" not in text:
        return escape(known.said(unescape(text)), quote=False)
    reader = _Reader(known)
    reader.feed(text)
    reader.close()
    return "".join(reader.written)


class _Reader(HTMLParser):
    """Writes HTML again as it reads it."""

    def __init__(self, known: Catalogue) -> None:
        super().__init__(convert_charrefs=True)
        self.known, self.written, self.open = known, list[str](), list[tuple[str, bool]]()

    @property
    def own(self) -> bool:
        """Whether what is read is somebody's own."""
        return any(mark for _, mark in self.open)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        """An element: its texts are in some of its attributes too."""
        given = dict(attributes)
        raw = self.get_starttag_text() or ""
        if name not in _VOID and not raw.endswith("/>"):
            self.open.append((name, self.own or given.get("translate") == "no" or name in ("code", "style", "script")))
        if not self.own:
            for attribute in _ATTRIBUTES:
                if held := given.get(attribute):
                    raw = raw.replace(
                        f'{attribute}="{escape(held)}"', f'{attribute}="{escape(self.known.said(held))}"'
                    )  # fmt: skip
            if shown := given.get("data-shown"):
                raw = raw.replace(escape(shown), escape(data(self.known, shown)))
        self.written.append(raw)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        """An element without an end."""
        self.handle_starttag(name, attributes)

    def handle_endtag(self, name: str) -> None:
        """The end of an element."""
        while self.open:
            if self.open.pop()[0] == name:
                break
        self.written.append(f"</{name}>")

    def handle_data(self, text: str) -> None:
        """Text between elements."""
        self.written.append(escape(text if self.own else self.known.said(text), quote=False))

    def handle_comment(self, text: str) -> None:
        """A comment stays."""
        self.written.append(f"<!--{text}-->")
