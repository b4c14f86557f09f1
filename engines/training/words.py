"""The public words of the procedural world: what a prompt may name and how it looks. Plain data.

Other people's prompts use these words, so they are a grammar, not an implementation detail. The page and the prompt's
check say them too, from here. Colours are 8-bit RGB.
"""

import re
from collections.abc import Iterable, Iterator

COLOURS = {
    "red": (222, 38, 38),
    "green": (48, 178, 66),
    "blue": (46, 88, 226),
    "yellow": (246, 214, 48),
    "purple": (146, 58, 190),
    "orange": (246, 138, 28),
    "white": (246, 246, 246),
    "cyan": (54, 214, 222),
    "pink": (252, 128, 182),
}

SHAPES = ("circle", "square", "triangle", "star", "ring")

MOTIONS = (
    "moves right",
    "moves left",
    "moves up",
    "moves down",
    "bounces",
    "falls",
    "spins",
    "grows",
    "shrinks",
    "circles around",
    "stays still",
)

BACKGROUNDS = {
    "black": (16, 16, 20),
    "grey": (134, 136, 142),
    "sky": (154, 204, 242),
    "sand": (226, 204, 160),
    "dark blue": (22, 30, 96),
    "dark green": (16, 72, 44),
}
PHOTOGRAPH = "photograph"

FLOORS = {
    "green": (84, 150, 60),
    "brown": (120, 82, 46),
    "grey": (98, 98, 100),
    "white": (230, 230, 228),
}

PATTERNS = ("plain", "striped", "dotted", "two-tone", "with eyes")

CAMERA = ("pans left", "pans right", "pans up", "pans down", "zooms in", "zooms out")

SMALL_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SMALL_SHAPES = ("circle", "square", "triangle")
SMALL_BACKGROUNDS = ("black", "grey", "sky", "sand")
SMALL_MOTIONS = ("moves right", "moves left", "moves up", "moves down", "grows", "stays still")

# A background that hides a subject of the same hue is never drawn with it.
CLASHES = {
    ("blue", "dark blue"),
    ("green", "dark green"),
    ("cyan", "sky"),
    ("white", "sky"),
    ("yellow", "sand"),
    ("orange", "sand"),
    ("blue", "sky"),
    ("white", "sand"),
    ("purple", "dark blue"),
    ("white", "grey"),
}

SHAPE_SYNONYMS = {
    "circle": ("ball", "disc", "dot"),
    "square": ("box", "block", "cube"),
    "triangle": ("wedge", "pyramid"),
    "star": ("starfish",),
    "ring": ("hoop", "donut"),
}

MOTION_SYNONYMS = {
    "moves right": ("slides to the right", "goes right", "travels to the right", "drifts right", "flies right"),
    "moves left": ("slides to the left", "goes left", "travels to the left", "drifts left", "flies left"),
    "moves up": ("goes up", "rises", "floats up", "climbs upwards", "flies up"),
    "moves down": ("goes down", "sinks", "slides down", "moves downwards"),
    "bounces": ("jumps", "hops", "bounces up and down", "jumps up and down", "is bouncing"),
    "falls": ("drops", "falls down", "tumbles down", "is falling"),
    "spins": ("rotates", "turns around itself", "is spinning", "twirls"),
    "grows": ("gets bigger", "becomes larger", "expands", "is growing"),
    "shrinks": ("gets smaller", "becomes smaller", "is shrinking"),
    "circles around": ("goes in circles", "moves in a circle", "orbits", "loops around"),
    "stays still": ("does not move", "rests", "stands still", "is still"),
}

THINGS = ("toy", "object", "thing", "figure", "sticker", "character", "picture", "creature")


# Words that hold a sentence together and say nothing that is drawn.
_SMALL = "a an and around at background backgrounds camera clip each floor front her his in is it its of on one over"
_SMALL += " scene the their then there this to two under video while with"


def words_of(text: str) -> list[str]:
    """The words of a text in their order, in any script, in small letters."""
    return re.findall(r"[^\W\d_]+", text.lower())


def _taught() -> frozenset[str]:
    groups = (COLOURS, SHAPES, MOTIONS, BACKGROUNDS, FLOORS, PATTERNS, CAMERA, THINGS, (PHOTOGRAPH, _SMALL))
    synonyms = (*SHAPE_SYNONYMS.values(), *MOTION_SYNONYMS.values())
    known = {word for group in (*groups, *synonyms) for phrase in group for word in words_of(phrase)}
    plurals = {
        f"{name}s" for name in (*SHAPES, *THINGS, *(name for group in SHAPE_SYNONYMS.values() for name in group))
    }
    return frozenset(known | plurals)


TAUGHT = _taught()
_PAINTS = {*COLOURS, *FLOORS, *(word for name in BACKGROUNDS for word in words_of(name))}


def unknown(prompt: str) -> list[str]:
    """What of a prompt no caption of this world has: words in their order, then backgrounds and floors; each once."""
    strange = [word for word in words_of(prompt) if word not in TAUGHT]
    return list(dict.fromkeys([*strange, *_unknown_grounds(prompt.lower())]))


def _unknown_grounds(prompt: str) -> Iterator[str]:
    """Backgrounds and floors in a colour that subjects have alone, as "purple background"."""
    for before, paint, kind in re.findall(r"(?:([^\W\d_]+) )?\b([^\W\d_]+) (background|floor)", prompt):
        known = BACKGROUNDS if kind == "background" else FLOORS
        if paint in _PAINTS and paint not in known and f"{before} {paint}" not in known:
            yield f"{paint} {kind}"


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"


SENTENCE = (
    f"a {_listed(COLOURS)} {_listed(SHAPES)} ({_listed(PATTERNS)}) that {_listed(MOTIONS)}, "
    f"on a {_listed(BACKGROUNDS)} background, over a {_listed(FLOORS)} floor"
)
