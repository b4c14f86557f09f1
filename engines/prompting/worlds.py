"""The worlds of the built-in models: what each was taught, and how free text is said in its words. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engines.prompting import six_scenes, small_world
from engines.training import scene_words, words


@dataclass(frozen=True)
class World:
    """One world.

    Attributes:
        translated: a prompt -> the same in its words, and what was replaced by what.
        unknown: a prompt in its words -> the words of it that it was not taught.
        acts: whether a prompt in its words says what happens.
        actions: some of what can happen.
    """

    translated: Callable[[str], tuple[str, list[tuple[str, str]]]]
    unknown: Callable[[str], list[str]]
    acts: Callable[[str], bool]
    actions: tuple[str, ...]


SHAPES = World(
    small_world.translated,
    words.unknown,
    lambda text: "camera" in text or any(motion in text for motion in words.MOTIONS),
    words.MOTIONS[:3],
)
SCENES = World(
    six_scenes.translated,
    scene_words.unknown,
    six_scenes.told,
    ("falls to the floor and bounces", "is thrown up to the right", "rolls down a slope"),
)


def of(said: str) -> World:
    """The world that a model's `words` (ModelSpec) tell of."""
    return SCENES if said == scene_words.SENTENCE else SHAPES
