"""The sentences of the physics world: all that its clips' captions, and so prompts for its starter, say. Plain data."""

from engines.training.words import words_of

COLOURS = ("red", "blue")

CAPTIONS = {
    "free fall": "A {colour} disc falls to the floor and stays there.",
    "bounce": "A {colour} disc falls to the floor and bounces.",
    "projectile": "A {colour} disc is thrown up to the right.",
    "pendulum": "A {colour} disc on a rod is let go and swings.",
    "collision": "A red disc and a blue disc collide head on.",
    "incline": "A {colour} ball rolls down a slope.",
}

SENTENCES = tuple(dict.fromkeys(caption.format(colour=colour) for caption in CAPTIONS.values() for colour in COLOURS))
TAUGHT = frozenset(words_of(" ".join(SENTENCES)))

SENTENCE = (
    "a red or blue disc that falls to the floor and stays there, falls to the floor and bounces, is thrown up to the "
    "right, or is let go on a rod and swings; a red or blue ball that rolls down a slope; or a red disc and a blue "
    "disc that collide head on"
)


def unknown(prompt: str) -> list[str]:
    """The words of a prompt that no caption of this world has, in their order, each once."""
    return [word for word in dict.fromkeys(words_of(prompt)) if word not in TAUGHT]
