"""Sentences in another language: a gettext catalogue, matched against texts that are finished already.

The English stands in the sources alone, as literals and f-strings, in engines that know of no language. So an entry's
msgid is the text of a literal, or of an f-string with its values as {0}, {1}, ... in order (sources.py finds them), and
what is translated is the finished text: it is matched against the entries, its values are taken out, translated where
they are texts of the catalogue too, and put into the msgstr, where they may stand in another order.

In a msgstr `{0:d}` takes numbers alone, `{0:n}` what begins with one, `{0:w}` one word, `{0:r}` anything, and these are
left as they are; plain `{0}` takes anything too, and is translated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, reduce
from pathlib import Path
from typing import Literal

import polib

FOLDER = Path(__file__).with_name("locale")
LONGEST = 4000
"""Characters of a text that is looked at; what people write may be longer, and is theirs."""

_FIELD = re.compile(r"\{(\w+)(?::([dnrw]))?\}")
_PLACE = re.compile(r"\{\d")
_SHORT = 90  # characters of what the page's own JavaScript may say: only that is sent to browsers
_UNIT = re.compile(r"([^().]+) \(([^() ]{1,4})\)")
_WORD = re.compile(r"[A-Za-z]{3}")
_LETTERS = re.compile(r"[A-Za-z]")
_NUMBER = r"[-+]?(?:\d[\d.,:]*)?\d%?"
# What a value may be: at first one piece, then not more than one sentence, then anything.
_Width = Literal["narrow", "sentence", "anything"]
_VALUES: Mapping[_Width, str] = {
    "narrow": r"(?:(?!, |; | · |[.!?:] [A-Z]).)*?",
    "sentence": r"(?:(?![.!?:] [A-Z]).)*?",
    "anything": r".*?",
}
_SIGNS = {".": "。", ":": "："}
_SENTENCES = re.compile(r"(?<=[.!?:…]) (?=\S)")
# What joins a piece to others, which an entry may be without.
_AROUND = " ·,;\n"
_FULL = "。！？：；，、…"


@dataclass(frozen=True)
class _Template:
    """An entry with values: how its texts are known, and what it says."""

    patterns: Mapping[_Width, str]
    literal: str
    weight: int
    begins: bool
    ends: bool
    said: str
    raw: frozenset[str]


class Catalogue:
    """The texts of one language, by their English ones.

    Attributes:
        browser: what the page's JavaScript may say itself: texts as they are, or with values that have names.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        entries = dict(given)
        for english, said in given.items():  # "Starter (built in)" is also called Starter
            title, more, _ = english.partition(" (")
            if more and "（" in said and not _FIELD.search(english):
                entries.setdefault(title, said.partition("（")[0])
        self.browser = {
            english: _FIELD.sub(r"{\1}", said)
            for english, said in entries.items()
            if len(english) <= _SHORT and not _PLACE.search(english)
        }
        self._exact = {english: said for english, said in entries.items() if not _FIELD.search(english)}
        made = (_template(english, said) for english, said in entries.items() if _FIELD.search(english))
        self._templates = sorted(made, key=lambda one: (not one.begins, -one.weight))
        self.said = lru_cache(maxsize=8192)(self._said)

    def _said(self, text: str) -> str:
        """A finished text in this language; what is not known of it stays as it is."""
        core = text.strip(_AROUND)
        if not core or len(core) > LONGEST or not _LETTERS.search(core):
            return self._exact.get(text, text)
        found = self._whole(core, "narrow") or self._parts(core)
        found = found or self._whole(core, closed=True) or self._pieces(core) or self._whole(core)
        if found is None:  # as much of it as is known
            possible = [said for said in (self._whole(core, "anything"), self._some(core)) if said is not None]
            found = min(possible, key=lambda said: len(_LETTERS.findall(said)), default=None)
        if found is None:
            return text
        before, _, after = text.partition(core)
        return before.replace(", ", "，").replace("; ", "；") + found + after

    def _whole(self, text: str, width: _Width = "sentence", *, closed: bool = False) -> str | None:
        """A text that is one entry, or one that was made a sentence, or the beginning or the end of one."""
        forms = _forms(text)
        for form, end in forms:
            if form in self._exact:
                return self._exact[form] + end
        if text[:1].islower() and (said := self._exact.get(f"{text[:1].upper()}{text[1:]}.")):
            return said.rstrip("。")
        # A value at the end of an entry does not take the full stop along, if it can be helped.
        for with_sign in (False, True):
            for form, end in forms:
                for one in self._templates:
                    if closed and not (one.begins and one.ends):
                        continue
                    if one.literal not in form or (not with_sign and not one.ends and form[-1:] in _SIGNS):
                        continue
                    if found := _compiled(one.patterns[width]).fullmatch(form):
                        return self._filled(one, found.groupdict()) + end
        return None

    def _filled(self, one: _Template, values: Mapping[str, str]) -> str:
        def value(field: re.Match[str]) -> str:
            held = values[f"v{field[1]}"]
            return held if field[1] in one.raw else self._value(held)

        return _FIELD.sub(value, one.said)

    def _value(self, text: str) -> str:
        """A value of a text: a text itself, a list of some, or a name that stays."""
        said = self.said(text)
        if said == text and text[-1:].isalnum():  # its full stop was taken for the text's own
            said = self.said(f"{text}.").rstrip(".。")
        if said != text:
            return said.strip() if said[-1:] in _FULL else said
        for word in (" or ", " and "):
            before, found, last = text.rpartition(word)
            joint = self._exact.get(word.strip())
            if found and joint:
                names = [self._value(one) for one in before.rstrip(",").split(", ")]
                return f"{'、'.join(names)} {joint} {self._value(last)}"
        if ", " in text:
            pieces = [self._value(one) for one in text.split(", ")]
            return "、".join(pieces) if pieces != text.split(", ") else text
        return text

    def _parts(self, text: str) -> str | None:
        """A text made of several, each of them known: lines, facts in a row, sentences one after the other."""
        for mark in ("\n", " · ", " + "):
            if mark in text:
                said = [self.said(piece) for piece in text.split(mark)]
                return mark.join(said) if said != text.split(mark) else None
        if found := _UNIT.fullmatch(text):  # "Size (%)"
            known = self.said(found[1])
            return f"{known}（{self.said(found[2])}）" if known != found[1] else None
        title, dash, rest = text.partition(" — ")
        if dash and (said := self.said(f"— {rest}")) != f"— {rest}":
            return f"{self.said(title)} {said}"
        pieces = _SENTENCES.split(text)
        if len(pieces) > 1 and (found := self._sentences(pieces)) is not None:
            return found
        return None

    def _pieces(self, text: str) -> str | None:
        """A text of pieces with commas between them, each of them known, or no word at all."""
        for mark, joint in (("; ", "；"), (", ", "，")):
            pieces = [piece.removeprefix("and ") for piece in text.split(mark)] if mark in text else []
            known = [self.said(piece) for piece in pieces]
            if known != pieces and all(
                one != piece or not _WORD.search(piece) for one, piece in zip(known, pieces, strict=True)
            ):
                return joint.join(known)
        return None

    def _sentences(self, pieces: list[str]) -> str | None:
        """Sentences, each of them one entry, or a few of them together; None where one is not known."""
        for count in range(1, len(pieces) + 1):
            first = " ".join(pieces[:count])
            said = self._whole(first, "anything") if count > 1 else self._whole(first) or self._pieces(first)
            if said is None:
                continue
            if count == len(pieces):
                return said
            if (rest := self._sentences(pieces[count:])) is not None:
                return _after(said, rest)
        return None

    def _some(self, text: str) -> str | None:
        """The sentences that are known, between those that stay as they are; None where none is known."""
        pieces = _SENTENCES.split(text)
        said = [self._whole(piece) or piece for piece in pieces] if len(pieces) > 1 else pieces
        return reduce(_after, said) if said != pieces else None

    def data(self, value: object, names: frozenset[str]) -> object:
        """JSON values with the texts under these names in this language."""
        if isinstance(value, Mapping):
            return {
                name: [self.said(one) if isinstance(one, str) else one for one in held]
                if name in names and isinstance(held, list | tuple) and all(isinstance(one, str) for one in held)
                else self.said(held) if name in names and isinstance(held, str) else self.data(held, names)
                for name, held in value.items()
            }  # fmt: skip
        return [self.data(one, names) for one in value] if isinstance(value, list | tuple) else value


def _after(said: str, more: str) -> str:
    """Two sentences, with a space between them where the first has no sign that brings its own."""
    return said + more if said[-1:] in _FULL else f"{said} {more}"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compiled when a text first comes near it: most of a catalogue is never needed."""
    return re.compile(pattern, re.DOTALL)


def _template(english: str, said: str) -> _Template:
    """An entry of values; those that the msgstr wants as numbers are known as such."""
    kinds = dict(_FIELD.findall(said))
    literals = _FIELD.split(english)[::3]

    def pattern(anything: str) -> str:
        seen: set[str] = set()
        parts = [re.escape(literals[0])]
        for (name, _), literal in zip(_FIELD.findall(english), literals[1:], strict=True):
            inside = {"d": _NUMBER, "n": rf"\d{anything}", "w": r"\S+"}.get(kinds.get(name, ""), anything)
            parts += [f"(?P=v{name})" if name in seen else f"(?P<v{name}>{inside})", re.escape(literal)]
            seen.add(name)
        return "".join(parts)

    return _Template(
        patterns={width: pattern(inside) for width, inside in _VALUES.items()},
        literal=max(literals, key=len),
        weight=sum(map(len, literals)),
        begins=bool(literals[0]),
        ends=bool(literals[-1]),
        said=said,
        raw=frozenset(name for name, kind in kinds.items() if kind in ("d", "r", "w")),
    )


def entries(path: Path) -> Iterable[polib.POEntry]:
    """The entries of a catalogue's file that say something."""
    return [entry for entry in polib.pofile(str(path)) if entry.msgstr and not entry.obsolete]


def _forms(text: str) -> list[tuple[str, str]]:
    """A text as an entry may have it: without its capital, without its full stop, which is then put behind it."""
    ends = [(text, ""), *((text[:-1], full) for sign, full in _SIGNS.items() if text.endswith(sign) and len(text) > 1)]
    return [(form, end) for short, end in ends for form in dict.fromkeys((short, short[:1].lower() + short[1:]))]


def bare(text: str) -> str:
    """Texts are looked for without what joins them to others, but for those that are nothing else."""
    return text.strip(_AROUND + "，；") if _FIELD.search(text) or re.search(r"\w", text) else text


@cache
def catalogue(language: str) -> Catalogue | None:
    """The catalogue of a language such as "zh_CN"; None for English, which needs none, and for all that have none."""
    path = FOLDER / f"{language}.po"
    if not re.fullmatch(r"[a-z]{2}(_[A-Z]{2})?", language) or not path.is_file():
        return None
    return Catalogue({bare(entry.msgid): bare(entry.msgstr) for entry in entries(path)})
