"""What a language model is told that refines a prompt: this project's own words, the same for every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_WORDS = 150

_RULES = """\
You improve prompts for a model that makes short videos. You get the prompt that a person wrote{seen}.
Answer with the improved prompt alone: one paragraph of plain text, without a title, a list, quotation marks or remarks.
- Write in the language of the person's prompt.
- Keep every subject, action, place and quoted word of the prompt. You may make them clearer, never replace them.
- Invent nothing: no further people, animals or objects, no names, no ages, no brands, no writing.
- Say what can be seen: how each subject looks, how it moves and where to. Light and camera only as far as the prompt or
  the scene tells them.
- One continuous scene: no cuts, no split screen, every subject only once.
{pictures}{engine}- At most {words} words."""

_SEEN = {0: "", 1: " and a picture"}
_PICTURES = """\
- Look at the pictures. Every picture stands for something in the video: mention it, and tie it to its picture by traits
  that are visible there, such as colours, clothes, materials and shape. Say nothing about it that cannot be seen.
- Never write "picture", "image" or a number of one: the video model does not count them.
"""


@dataclass(frozen=True)
class Draft:
    """A prompt to be refined.

    Attributes:
        pictures: what it is about, in the person's order.
        advice: what a prompt for the engine should do, in sentences to a writer (EngineSpec.advice).
        words: most words that the engine reads.
    """

    prompt: str
    pictures: tuple[Path, ...] = ()
    advice: str = ""
    words: int = DEFAULT_WORDS


def instruction(draft: Draft) -> str:
    """The system message for a draft."""
    count = len(draft.pictures)
    filled: Mapping[str, object] = {
        "seen": _SEEN.get(count, f" and {count} pictures"),
        "pictures": _PICTURES if count else "",
        "engine": f"- {draft.advice}\n" if draft.advice else "",
        "words": draft.words,
    }
    return _RULES.format(**filled)
