"""A prompt as tokens, at most as many as a model takes, and what to say of the end that did not fit. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tokenizers import Tokenizer

from engines.events import Note

FIRST_CHARACTERS = 40


def tokenise(tokenizer: Tokenizer, text: str, *, length: int) -> tuple[list[int], int]:
    """Token ids, special tokens included, at most `length`; and how many characters of `text` they cover.

    A text that is cut keeps the token that closes every text.
    """
    encoding = tokenizer.encode(text)
    if len(encoding.ids) <= length:
        return encoding.ids, len(text)
    covered = max((last for _, last in encoding.offsets[: length - 1]), default=0)
    return encoding.ids[: length - 1] + encoding.ids[-1:], covered


def cut_notes(cut: Mapping[str, str], *, length: int) -> Iterator[Note]:
    """A note for each text that was too long: its name for people -> the end of it that does not count, or ""."""
    for label, words in cut.items():
        if words:
            start = words[:FIRST_CHARACTERS]
            yield Note(message=f'Only the first {length} tokens of the {label} count: "{start}" and on is cut.')
