"""A richer prompt by plain rules: no language model, no network, no torch, the same answer every time.

For the built-in models, whose world is small, the prompt is said in their own words instead: see worlds.py. For
all others the rules only add. Every word of the prompt stays, nothing is said about people but what was written, and
what is said about a picture was measured in it. The user sees the suggestion and its reasons, and accepts it or not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engines import registry
from engines.errors import MediaError
from engines.events import Answer
from engines.media.framing import cut_out
from engines.media.pictures import open_picture
from engines.messages import Ask
from engines.prompting import worlds
from engines.request import MAX_PROMPT_CHARACTERS
from engines.wording import both, either, some

BY = "rules"
WORDS_IT_KNOWS = "The words it knows:"
"""How the reason begins that lists a model's whole vocabulary."""
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "first": 1, "second": 2, "third": 3, "fourth": 4}

# Upper hue of each colour in degrees; above the last it is red again.
_HUES = ((12, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (195, "cyan"), (260, "blue"), (300, "purple"))
_HUES += ((345, "pink"), (360, "red"))
# A colour counts as one of the picture's own from this share of it on.
_MAIN_SHARE = 0.2

_PICTURE = r"(?:pictures?|images?|photos?|references?|slots?)"
_NUMBER = rf"(?:[1-4]|{'|'.join(NUMBERS)})"
_NAMED = re.compile(rf"\b{_PICTURE}\s+(?:number\s+)?({_NUMBER}(?:\s*(?:,|and|&)\s*{_NUMBER})*)\b", re.I)
_ORDINAL = re.compile(rf"\b(first|second|third|fourth)\s+{_PICTURE}\b", re.I)
_ALL = re.compile(rf"\b(?:both|all)\b[\w\s]*?\b{_PICTURE}\b", re.I)
_SUBJECT = re.compile(r"\b(?:(\w+)\s+)?(a|an|the|one|two|three|four|his|her|its|my|their|this|that)\s+\w+", re.I)
_PLACE = re.compile(
    r"in|on|at|under|over|across|through|into|onto|near|behind|beside|towards?|along|around|from|to|of|before|against|"
    r"above|below|by",
    re.I,
)
_FOREIGN = re.compile(
    r"\b(?:und|der|das|ein|eine|einem|einen|les|une|est|avec|dans|el|los|una|con|che|och|ett)\b", re.I
)
_PRONOUN = re.compile(r"^(?:he|she|it|they)\b", re.I)

# What is added where the prompt says nothing of the kind: (words that say it, sentence, reason).
_ADDITIONS = (
    (
        r"camera|shot|close-?up|zoom\w*|pans?|panning|view|angle|tracking",
        "The camera stays still.",
        "No camera is mentioned: a still one keeps the subject steady.",
    ),
    (
        r"light\w*|lit|sun\w*|dark|night|dusk|dawn|shadow\w*|bright|neon|moon\w*|background",
        "Soft, even light.",
        "No light is mentioned: even light shows the subject as its picture does.",
    ),
    (
        r"smooth\w*|sharp\w*|detail\w*|blur\w*|style|realistic|cartoon|painting|slow\w*|fast|quick\w*",
        "Smooth motion, sharp detail.",
        "Nothing is said of motion or detail.",
    ),
)


def answer(question: Ask, session: Any = None) -> Generator[Answer, None, None]:
    """The refiner "rules" of engines/prompting/tasks.py: the suggestion for a prompt, as a whole."""
    spec = registry.SPECS.get(question.engine)
    models = {model.name: model for model in spec.models} if spec is not None else {}
    words = models[question.model].words if question.model in models else ""
    yield refine(question.text, pictures=question.pictures, words=words)


def refine(prompt: str, *, pictures: Sequence[Path] = (), words: str = "") -> Answer:
    """A suggestion for `prompt` with these reference pictures, in their order; one that cannot be read says nothing.

    Args:
        words: ModelSpec.words of the model; where it names any, the prompt is said in these words and nothing is added.
    """
    text = _tidied(prompt)
    if not text:
        return Answer(text="", reasons=("Write first what the subject does: an action cannot be guessed.",), by=BY)
    if words:
        return _in_its_words(prompt, words)
    reasons = [] if text == prompt.strip() else ["Spaces and punctuation were tidied."]
    if not _is_english(text):
        left = "Only English prompts are extended; yours was left in its language."
        return Answer(text=text, reasons=(*reasons, left), by=BY)
    if pronoun := _PRONOUN.match(text):
        reasons.append(f'Say who "{pronoun[0]}" is: name the subject by what can be seen of it.')
    elif len(text.split()) < 4:
        reasons.append("The prompt is short: say how each subject looks and what it does.")
    for addition, reason in [*_of_pictures(text, pictures), *_of_manner(text)]:
        if len(text) + 1 + len(addition) > MAX_PROMPT_CHARACTERS:
            reasons.append("The prompt is as long as it may be: nothing more was added.")
            break
        text = f"{text} {addition}"
        reasons.append(reason)
    return Answer(text=text, reasons=tuple(reasons), by=BY)


def remark(prompt: str, words: str) -> str:
    """What to say of a prompt while it is written, in a sentence; "" for nothing.

    Args:
        words: ModelSpec.words of the model; one that names none understands free text.
    """
    if not words:
        return ""
    world = worlds.of(words)
    if not (strange := world.unknown(world.translated(prompt)[0])):
        return "This model was taught few words: Refine prompt says yours in them." if world.unknown(prompt) else ""
    if not _is_english(prompt):
        return "This model reads English only, and few words of it: see what Refine prompt says."
    return f"This model was not taught {some(strange)}: see what Refine prompt says."


def _in_its_words(prompt: str, words: str) -> Answer:
    """The prompt as a model of few words understands it, and what of it the model was never taught."""
    world = worlds.of(words)
    text, replaced = world.translated(prompt.strip())
    reasons = []
    if replaced:
        reasons.append("This model was taught few words: yours became the ones that mean about the same.")
    strange = world.unknown(text)
    if not _is_english(text):
        reasons.append("It reads English only.")
    elif strange:
        reasons.append(f"It was not taught {some(strange)}: say it in other words.")
    if not world.acts(text):
        reasons.append(f"Say what the subject does: it {either(world.actions)}, for example.")
    if strange or (not replaced and reasons):
        reasons.append(f"{WORDS_IT_KNOWS} {words}.")
    return Answer(text=text, reasons=tuple(reasons or ("This prompt is fine as it is.",)), by=BY)


def _tidied(prompt: str) -> str:
    text = " ".join(prompt.split())
    if text and text[-1].isalnum():
        text += "."
    return text[:1].upper() + text[1:]


def _is_english(text: str) -> bool:
    """Whether English sentences may follow: mostly Latin letters, and not two words of another common language."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum(map(str.isascii, letters)) >= 0.9 * len(letters) and len(_FOREIGN.findall(text)) < 2


def _of_manner(text: str) -> list[tuple[str, str]]:
    return [
        (sentence, reason) for words, sentence, reason in _ADDITIONS if not re.search(rf"\b(?:{words})\b", text, re.I)
    ]


def _of_pictures(text: str, pictures: Sequence[Path]) -> list[tuple[str, str]]:
    """A sentence for each picture that the prompt leaves out, or whose colours it does not name."""
    colours = [main_colours(picture) for picture in pictures]
    mentioned = _mentioned(text, colours)
    by_number = _named_by_number(text, len(pictures))
    said = _words(text)
    found = []
    for number, names in enumerate(colours, start=1):
        if number not in mentioned:
            look = f", mainly {both(names)}," if names else ""
            sentence = f"What picture {number} shows{look} is also in view."
            found.append((sentence, f"Picture {number} does not seem to be mentioned."))
        elif names and number not in by_number and not said & set(names):
            sentence = f"The main {'colours' if names[1:] else 'colour'} of picture {number}: {both(names)}."
            reason = f"The colours of picture {number} are not mentioned: naming what can be seen keeps the likeness."
            found.append((sentence, reason))
    return found


def _mentioned(text: str, colours: Sequence[tuple[str, ...]]) -> set[int]:
    """The pictures that the prompt speaks of: by number, by a colour of theirs, or as one of its subjects in order."""
    count = len(colours)
    said = _words(text)
    by_name = _named_by_number(text, count)
    by_name |= {number for number, names in enumerate(colours, start=1) if said & set(names)}
    subjects = max(1, _subject_count(text))
    others = [number for number in range(1, count + 1) if number not in by_name]
    return by_name | set(others[: max(0, subjects - len(by_name))])


def _named_by_number(text: str, count: int) -> set[int]:
    if _ALL.search(text):
        return set(range(1, count + 1))
    words = [word for group in _NAMED.findall(text) for word in re.findall(_NUMBER, group, re.I)]
    words += _ORDINAL.findall(text)
    return {NUMBERS.get(word.lower()) or int(word) for word in words}


def _subject_count(text: str) -> int:
    """How many things act, as far as articles tell: one in "a fox in the snow", three in "two dogs and a cat"."""
    return sum(
        NUMBERS.get(article.lower(), 1) for before, article in _SUBJECT.findall(text) if not _PLACE.fullmatch(before)
    )


def _words(text: str) -> set[str]:
    return {"grey" if word == "gray" else word for word in re.findall(r"[a-z]+", text.lower())}


def main_colours(picture: Path) -> tuple[str, ...]:
    """At most two names of colours that make up the picture's subject, the larger first; none if it cannot be read.

    Tones that skin can have are never named.
    """
    try:
        image = open_picture(picture, as_published=False)
    except MediaError:
        return ()
    image.thumbnail((128, 128), Image.Resampling.BOX)
    subject, found = cut_out(image)
    hue, saturation, value = (np.asarray(band).ravel().astype(int) for band in subject.convert("HSV").split())
    if found:
        kept = (np.asarray(subject).reshape(-1, 3) < 255).any(axis=1)
        hue, saturation, value = hue[kept], saturation[kept], value[kept]
    degrees = hue * 360 // 256
    names = np.array([name for _, name in _HUES])[np.searchsorted([top for top, _ in _HUES], degrees, side="right")]
    names[(saturation < 40) & (value <= 200)] = "grey"
    names[(saturation < 40) & (value > 200)] = "white"
    names[value < 50] = "black"
    names[(degrees < 46) & (saturation >= 40) & (saturation < 200)] = ""  # skin, and what looks like it
    shares = Counter(names.tolist())
    main = sorted((-share, name) for name, share in shares.items() if name and share >= _MAIN_SHARE * len(names))
    return tuple(name for _, name in main[:2])
