"""Sentences for clips: the public grammar, and paraphrases so that free text lands too."""

import numpy as np

from .. import words


def article(noun: str) -> str:
    """`a star`, `an orange star`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def subject_phrase(rng: np.random.Generator, *, name: str, colour: str | None, pattern: str | None, free: bool) -> str:
    """Noun phrase of a subject; `free` allows synonyms."""
    noun = name
    if free and name in words.SHAPE_SYNONYMS and rng.random() < 0.5:
        noun = str(rng.choice(words.SHAPE_SYNONYMS[name]))
    if pattern == "with eyes":
        noun = f"{noun} with eyes"
    elif pattern not in (None, "plain"):
        noun = f"{pattern} {noun}"
    if colour is not None:
        noun = f"{colour} {noun}"
    if free and rng.random() < 0.15:
        return f"the {noun}"
    return article(noun)


def trait_phrase(rng: np.random.Generator, trait: str, value: str, *, free: bool) -> str:
    """A subject named by one trait that its picture shows ("the striped one"); `free` allows another noun."""
    noun = str(rng.choice(words.THINGS)) if free and rng.random() < 0.3 else "one"
    if trait == "shape":
        return f"the {value}"
    return f"the {noun} {value}" if value.startswith("with") else f"the {value} {noun}"


def motion_phrase(rng: np.random.Generator, motion: str, *, free: bool) -> str:
    """Verb phrase of a motion word; `free` allows paraphrases."""
    if free and rng.random() < 0.7:
        return str(rng.choice(words.MOTION_SYNONYMS[motion]))
    return motion


def scene_phrase(rng: np.random.Generator, *, background: str, floor: str | None, free: bool) -> str:
    """Floor and background part of a caption, with its leading blank or comma."""
    if background == words.PHOTOGRAPH:
        forms = (" in front of a photograph", ", photograph background", " over a photograph")
        return str(forms[rng.integers(3 if free else 2)])
    if floor is not None and free and rng.random() < 0.3:
        return f" in a {background} scene with a {floor} floor"
    if floor is not None:
        return f" on a {floor} floor under a {background} background"
    forms = (f", {background} background", f" on a {background} background", f" in front of a {background} background")
    return forms[int(rng.integers(3)) if free else 0]


def join(rng: np.random.Generator, clauses: list[str], *, scene: str, camera: str | None, free: bool) -> str:
    """A whole caption from its subject clauses, scene and camera word."""
    text = " and ".join(clauses) + scene
    if camera is not None:
        view = f"the camera {camera}"
        text = f"{view}, {text}" if free and clauses and rng.random() < 0.3 else f"{text}, {view}"
    if free and rng.random() < 0.3:
        text = text[0].upper() + text[1:] + ("." if rng.random() < 0.7 else "")
    elif free and rng.random() < 0.1:
        text = f"a video of {text}"
    return text
