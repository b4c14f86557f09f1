"""The procedural world: captioned clips and reference pictures from a seed."""

from .. import words
from .clip import Clip, Track, WorldConfig, caption_of, make_clip

__all__ = ["Clip", "Track", "WorldConfig", "caption_of", "make_clip", "words"]
