"""What a language model answered -> a prompt that may stand in a form, or a sentence why it may not."""

from __future__ import annotations

import re
import unicodedata

from engines.errors import RefinerError
from engines.request import MAX_PROMPT_CHARACTERS

# Most that is ever read of an answer: room for a model that thinks aloud before it writes.
MAX_REPLY_CHARACTERS = 20_000

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.S | re.I)
_UNFINISHED_THOUGHT = re.compile(r"<think(?:ing)?>", re.I)
_FENCE = re.compile(r"```\w*\n?")
_LABEL = re.compile(
    r"^\W*(?:here(?:'s| is)[^:\n]{0,60}|(?:improved|refined|final|new)\s+prompt|prompt)\s*[:：][\s*]*", re.I
)
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("«", "»"), ("「", "」"), ("**", "**"))
# Joiners that scripts and emoji need; every other invisible character goes.
_JOINERS = "\u200c\u200d"


def prompt_of(reply: str) -> str:
    """The prompt in a whole reply: one paragraph of visible characters, without what models put around it.

    Raises:
        RefinerError: nothing is left, or more than a prompt may have.
    """
    text = _THOUGHTS.sub(" ", reply)
    if _UNFINISHED_THOUGHT.search(text):
        raise RefinerError("The refiner thought aloud and never wrote a prompt.", hint="Try again, or another model.")
    text = _FENCE.sub(" ", text).strip()
    text = _LABEL.sub("", text, count=1)
    text = " ".join("".join(map(_visible, text)).split())
    for opening, closing in _QUOTES:
        inner = text[len(opening) : len(text) - len(closing)]
        if text.startswith(opening) and text.endswith(closing) and len(text) > 2 and opening not in inner:
            text = inner.strip()
    if not any(map(str.isalnum, text)):
        raise RefinerError("The refiner answered with nothing that could be a prompt.", hint="Try again.")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise RefinerError(
            f"The refiner wrote {len(text):,} characters; a prompt has at most {MAX_PROMPT_CHARACTERS:,}.",
            hint="Try again, or another model.",
        )
    return text


def _visible(letter: str) -> str:
    """The letter; a space for line breaks and controls; nothing for what only changes how others look."""
    kind = unicodedata.category(letter)
    if kind == "Cc" or kind in ("Zl", "Zp"):
        return " "
    return "" if kind in ("Cf", "Co", "Cs", "Cn") and letter not in _JOINERS else letter
