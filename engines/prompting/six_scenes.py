"""Free text as one of the sentences that the physics starter was taught: "a crimson ball on a string" swings as a disc.

Which of the six scenes is meant is told by what happens; everything else of the prompt has no counterpart there.
Imports no torch.
"""

from __future__ import annotations

import re

from engines.training.scene_words import CAPTIONS, SENTENCES

_REDS = "red crimson scarlet ruby vermilion orange pink reddish warm"
_BLUES = "blue azure navy cobalt sapphire indigo ultramarine cyan purple violet bluish cold"

# What happens -> how people say it, the more telling first: who is thrown also falls in the end.
_SAID = {
    "collision": r"collid\w+|collision|crash\w*|bump\w*|(?:hits?|meets?|strikes?|knocks?) (?:another|a|the|each|head)|"
    r"head[- ]on|into (?:a|an|another|the|each) (?:\w+ )?(?:ball|disc|disk|one|other|sphere)",
    "pendulum": r"swings?|swinging|pendulum|rod|string|rope|thread|chain|hook|dangl\w+|to and fro",
    "projectile": r"thrown|throws?|tossed|toss\w*|hurl\w*|launch\w*|shot|kick\w*|flies|flying|arcs?|curve",
    "incline": r"slopes?|ramps?|inclin\w+|hills?|downhill|tilted|rolls?|rolling",
    "bounce": r"bounc\w+|rebound\w*|jump\w*|hops?|hopping|springs?",
    "free fall": r"falls?|falling|drop\w*|lands?|landing|plung\w+|sinks?",
}


def told(prompt: str) -> bool:
    """Whether a prompt is one of the sentences, but for spaces, capitals and the stop."""
    return _bare(prompt) in {_bare(sentence) for sentence in SENTENCES}


def translated(prompt: str) -> tuple[str, list[tuple[str, str]]]:
    """The sentence that says most nearly what the prompt does, and what it was said for; the prompt if none does."""
    scene = next((name for name, pattern in _SAID.items() if re.search(rf"\b(?:{pattern})\b", prompt, re.I)), None)
    if scene is None or told(prompt):
        return prompt, []
    said = CAPTIONS[scene].format(colour=_colour(prompt))
    return said, [(prompt, said)]


def _bare(text: str) -> str:
    return " ".join(text.split()).rstrip(".").lower()


def _colour(text: str) -> str:
    """The first colour that is named, as one of the two that there are; red for none."""
    words = re.findall(r"[a-z]+", text.lower())
    return next(
        (own for word in words for own, like in (("red", _REDS), ("blue", _BLUES)) if word in like.split()), "red"
    )
