"""Free text in the words of the built-in models' small world: "a crimson ball on the lawn" is a red circle on green.

The world's own words come from engines/training/words.py; here stand the ordinary words that mean about the same. What
has no counterpart stays as it was written. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

from engines.training import words

_COLOURS = {
    "red": "crimson scarlet ruby vermilion burgundy maroon reddish",
    "green": "emerald lime jade greenish",
    "blue": "azure navy cobalt sapphire indigo ultramarine bluish",
    "yellow": "gold golden yellowish",
    "purple": "violet lilac lavender mauve amethyst",
    "orange": "amber copper tangerine",
    "white": "ivory snowy milky",
    "cyan": "turquoise teal aqua aquamarine",
    "pink": "rosy fuchsia magenta",
}
_SHAPES = {
    "circle": "ball disc disk dot sphere globe orb bubble coin balloon football basketball planet",
    "square": "box block cube brick crate rectangle tile dice",
    "triangle": "wedge pyramid cone",
    "star": "starfish",
    "ring": "hoop donut doughnut torus wheel tyre tire",
}
_PATTERNS = {
    "striped": r"stripy|stripey|banded|(?:with )?stripes",
    "dotted": r"spotted|spotty|polka[- ]?dot(?:ted)?|(?:with )?(?:dots|spots)",
    "two-tone": r"two[- ]colou?red|bicolou?red",
    "with eyes": r"with (?:a face|(?:two |big |large |googly )+eyes)",
}
_FLOORS = {
    "green": "lawn grass meadow field garden turf pitch",
    "brown": "table desk ground earth soil dirt mud wood parquet carpet",
    "grey": "road street asphalt pavement concrete stone tarmac",
    "white": "snow ice marble",
}
_BACKGROUNDS = {
    "sky": "sky clouds air heaven heavens",
    "sand": "beach desert dunes dune",
    "black": "night darkness dark space blackness",
    "dark blue": "sea ocean water lake",
    "dark green": "forest woods jungle",
    "grey": "fog mist haze wall",
}


def _any(choices: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(choices, key=len, reverse=True)))


def _shades(colour: str) -> str:
    """What a subject's colour is also called, as a pattern."""
    kind = "(?:(?:dark|light|bright|pale|deep|vivid|shiny|navy) )?"
    return f"{kind}(?:{_any([colour, *_COLOURS.get(colour, '').split()])})"


_PAINTED = {  # backgrounds by their colour
    "sky": rf"(?:light|pale|sky)[- ]blue|azure|{_shades('cyan')}",
    "dark blue": _shades("blue"),
    "dark green": _shades("green"),
    "sand": f"beige|cream|tan|sandy|{_shades('yellow')}",
    "grey": r"(?:light|dark) gr[ae]y",
    "black": r"(?:pitch|jet)[- ]black|dark",
}

_ADVERB = r"(?:(?:slowly|quickly|fast|gently|smoothly|steadily|rapidly|away|off|over|across|along)\s+)?"
_IS = r"(?:(?:is|are|starts?|begins? to|keeps?)\s+)?"
_PREPOSITION = "(?:on|onto|upon|over|in|into|at|across|through|under|along|against|by|near|above|beside|towards?)"
_GOES = (
    r"(?:mov(?:es?|ing)|go(?:es|ing)?|slid(?:es?|ing)|travel(?:s|l?ing)?|drift(?:s|ing)?|fl(?:y|ies|ying)|run(?:s|ning)?|"
    r"walk(?:s|ing)?|roll(?:s|ing)?|glid(?:es?|ing)|rac(?:es?|ing)|rush(?:es|ing)?|head(?:s|ing)?|float(?:s|ing)?|"
    r"swim(?:s|ming)?|sail(?:s|ing)?|driv(?:es?|ing)|climb(?:s|ing)?|crawl(?:s|ing)?)"
)
_TO = r"(?:(?:from (?:the )?\w+ )?(?:to|towards?) (?:the )?)?"
_WAYS = {"right": "right(?:wards?)?", "left": "left(?:wards?)?", "up": "up(?:wards?)?|top", "down": "down(?:wards?)?"}
_SIDE = r"(?:\s+(?:hand\s+)?side)?"
_MOTIONS = {
    **{f"moves {way}": rf"{_GOES}\s+{_ADVERB}{_TO}(?:{ends}){_SIDE}" for way, ends in _WAYS.items()},
    "bounces": r"(?:bounc(?:es?|ing)|jump(?:s|ing)?|hop(?:s|ping)?|leap(?:s|ing)?)(?: up and down)?",
    "falls": r"(?:fall(?:s|ing)?|drop(?:s|ping)?|plung(?:es?|ing)|tumbl(?:es?|ing))(?: down)?",
    "spins": r"(?:spin(?:s|ning)?|rotat(?:es?|ing)|twirl(?:s|ing)?|whirl(?:s|ing)?|turn(?:s|ing)?(?= a?round))"
    r"(?: a?round(?: itself)?)?",
    "grows": r"grow(?:s|ing)?(?: (?:bigger|larger))?|expand(?:s|ing)?|swell(?:s|ing)?|inflat(?:es?|ing)|"
    r"(?:gets?|getting|becom(?:es?|ing)) (?:bigger|larger)",
    "shrinks": r"shrink(?:s|ing)?|contract(?:s|ing)?|(?:gets?|getting|becom(?:es?|ing)) smaller",
    "circles around": r"orbit(?:s|ing)?|"
    r"(?:go(?:es|ing)?|mov(?:es?|ing)|run(?:s|ning)?|fl(?:y|ies|ying)) in (?:a )?circles?",
    "stays still": r"(?:stays?|stands?|sits?|waits?|rests?|hovers?|staying|standing|sitting|waiting|resting|hovering)"
    r"(?: still)?|(?:does|do) not move|(?:doesn't|don't) move",
}
_CAMERA = {
    **{
        f"pans {way}": rf"(?:moves?|goes|turns?|swings?|tracks?|drifts?|slides?|pans?) {_ADVERB}{_TO}(?:{ends})"
        for way, ends in _WAYS.items()
    },
    "zooms in": r"(?:moves?|comes?|gets?|goes|zooms?) (?:in|closer|nearer)",
    "zooms out": r"(?:moves?|goes|pulls?|zooms?) (?:out|back|away)",
}

Rule = tuple[str, Callable[[re.Match[str]], str]]


def translated(prompt: str) -> tuple[str, list[tuple[str, str]]]:
    """The prompt with ordinary words replaced by the world's own, and what was replaced by what, in order."""
    pattern, says = _rules()
    found: list[tuple[str, str]] = []

    def replace(match: re.Match[str]) -> str:
        new = says[str(match.lastgroup)](match)
        if match[0].lower() == new:
            return match[0]
        found.append((match[0], new))
        return new[:1].upper() + new[1:] if match[0][0].isupper() else new

    text = pattern.sub(replace, prompt)
    return re.sub(r"\b([Aa])n? (?=(\w))", _article, text), list(dict.fromkeys(found))


def _article(match: re.Match[str]) -> str:
    return f"{match[1]}{'n' if match[2].lower() in 'aeio' else ''} "


@cache
def _rules() -> tuple[re.Pattern[str], Mapping[str, Callable[[re.Match[str]], str]]]:
    """All rules as one pattern, the more telling first, and what the group of each becomes."""
    rules = [*_camera(), *_kept(), *_places(), *_motions(), *_looks()]
    alternatives = "|".join(rf"(?P<r{number}>{pattern})" for number, (pattern, _) in enumerate(rules))
    return re.compile(rf"(?<![\w-])(?:{alternatives})(?![\w-])", re.I), {
        f"r{number}": says for number, (_, says) in enumerate(rules)
    }


def _always(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


def _kept() -> Iterator[Rule]:
    """What is in the world's own words already."""
    own = _any(sorted({*words.BACKGROUNDS, *words.FLOORS}, key=len, reverse=True))
    yield rf"(?:{own}) (?:backgrounds?|floors?)", lambda match: match[0].lower()
    yield "gray", _always("grey")


def _camera() -> Iterator[Rule]:
    for told, pattern in _CAMERA.items():
        if told in words.CAMERA:
            yield rf"(?:the |a )?camera (?:slowly |gently |then )?(?:{pattern})", _always(f"the camera {told}")


def _places() -> Iterator[Rule]:
    """A place with the preposition before it, where what one stands on is a floor; and backgrounds by their colour."""
    article = r"(?:(?:the|a|an|some|its) )?(?:\w+(?:y|ing|en) )?"
    if "brown" in words.FLOORS:
        yield "(?:wooden|wood|parquet|oak) floor", _always("brown floor")
    for kind, places, known in (
        ("floor", _FLOORS, words.FLOORS),
        ("background", _BACKGROUNDS, words.BACKGROUNDS),
    ):
        for colour, nouns in places.items():
            if colour in known:
                pattern = rf"{_PREPOSITION} {article}(?:{_any(nouns.split())})"
                yield rf"{pattern}(?! (?:\w+ )?(?:background|floor|scene))", _always(f"on a {colour} {kind}")
    for colour, painted in _PAINTED.items():
        if colour in words.BACKGROUNDS:
            yield rf"(?:{painted}) background", _always(f"{colour} background")


def _motions() -> Iterator[Rule]:
    for motion in words.MOTIONS:
        synonyms = [re.escape(one) for one in words.MOTION_SYNONYMS.get(motion, ())]
        patterns = "|".join([*sorted(synonyms, key=len, reverse=True), *filter(None, [_MOTIONS.get(motion)])])
        yield rf"{_IS}(?:slowly |quickly )?(?:{patterns})", _always(motion)


def _looks() -> Iterator[Rule]:
    """Colours, patterns and shapes, with the shades that the world does not tell apart."""
    for colour in words.COLOURS:
        yield rf"{_shades(colour)}(?! (?:background|floor))", _always(colour)
    for told, pattern in _PATTERNS.items():
        if told in words.PATTERNS:
            yield pattern, _always(told)
    for shape in words.SHAPES:
        nouns = _any({*_SHAPES.get(shape, "").split(), *words.SHAPE_SYNONYMS.get(shape, ())})
        yield rf"(?:{nouns})s", _always(f"{shape}s")
        yield rf"(?:{nouns})", _always(shape)
