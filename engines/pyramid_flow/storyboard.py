"""A storyboard: one prompt per range of seconds, each for the units that begin in it. Imports no torch.

Written one range a line, `0-2: a red star moves right`; the ranges cover the clip from its start to its end. Digits,
dashes, colons and blanks may be those of any keyboard.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from engines.wording import given

UNIT_FRAMES = 8  # frames of a unit; the video's first frame is a unit of its own

# Read in one pass: every repetition is possessive, for a long line of blanks would be read for hours otherwise.
_NUMBER = r"(?>\d{1,9}(?:[.,]\d{1,9})?)"
_CLOCK = r"(?>\d{1,4}:[0-5]\d(?:[.,]\d{1,9})?)"
_LINE = r"""
    [ \t]*+ (?: [-*•·] [ \t]++ )?+ [(\[]?+ [ \t]*+ ({time}) {unit}
    [ \t]*+ (?: -++ >?+ | \.\.++ | (?:to|until|till|bis|à|hasta|до|到|至|から)(?![^\W\d]) ) [ \t]*+
    ({time}) {unit}
    (?: [ \t]*+ [)\]] [ \t]*+ [:;,.=|]?+ | [ \t]*+ [:;,.=|] | [ ]*+ \t | [ ]++ -++ [ ] ) [ \t]*+
"""
# Not "(?: ... )?+": Python before 3.11.5 stays behind the blanks of a unit that is not there.
_UNIT = r"(?> (?: [ \t]*+ (?:s|secs?|seconds?|sek|с|сек|秒) (?![^\W\d]) )? )"
_LINES = [
    re.compile(_LINE.format(time=time, unit=_UNIT), re.VERBOSE | re.IGNORECASE) for time in (_NUMBER, _CLOCK)
]  # both times as seconds, or both as minutes:seconds
# What stands on a keyboard where another has "-", ":", "," or ".", as far as Unicode does not say so itself.
_KEYS = {"-": "~∼〜−⁃ー→…‒⁓⇒", ":": "∶꞉ː։׃︰", ",": "、،؛､", ".": "٫。｡", "|": "│", "[": "【〔「『", "]": "】〕」』"}
_SIGNS = {there: here for here, others in _KEYS.items() for there in others}


@dataclass(frozen=True)
class Scene:
    """What happens from `start` to `end`, in seconds."""

    start: float
    end: float
    prompt: str


def parse(text: str) -> list[Scene]:
    """The scenes of a storyboard, one a line, in the order written.

    Raises:
        ValueError: with the sentence to show; the first line that cannot be read.
    """
    scenes = []
    for line in text.splitlines():
        plain = "".join(map(_plain, line)).rstrip()
        if not plain.strip():
            continue
        found = next(filter(None, (pattern.match(plain) for pattern in _LINES)), None)
        if found is None:
            raise ValueError(f"Write each line of the storyboard as 0-2: what happens; you gave {given(line.strip())}.")
        start, end, prompt = _in_seconds(found[1]), _in_seconds(found[2]), line[found.end() : len(plain)]
        if not prompt:
            raise ValueError(
                f"The storyboard says nothing for {_seconds(start, end)}: write a prompt behind the colon."
            )
        if end <= start:
            raise ValueError(
                f"The storyboard's range {_seconds(start, end)} ends before it begins: swap the two times."
            )
        scenes.append(Scene(start, end, prompt))
    return scenes


def problem(scenes: Sequence[Scene], *, frames: int, fps: int) -> str | None:
    """What is wrong with the scenes of a clip: gaps, overlaps, too short or too long; None if they fit."""
    length = frames / fps
    if not scenes:
        return "The storyboard holds no scene: write lines as 0-2: what happens, or empty it."
    scenes = sorted(scenes, key=lambda scene: scene.start)
    if scenes[0].start > 0:
        return f"The storyboard has no prompt for {_seconds(0, scenes[0].start)}: begin its first range at 0."
    for before, after in pairwise(scenes):
        if after.start > before.end:
            return f"The storyboard has no prompt for {_seconds(before.end, after.start)}: close the gap."
        if after.start < before.end:
            both = _seconds(after.start, min(before.end, after.end))
            return f"The storyboard has two prompts for {both}: let one range end where the next begins."
    # A clip of 121 frames at 24 a second lasts 5.04 s; nobody should have to write that.
    last, unit = scenes[-1], UNIT_FRAMES / fps
    if last.end < length - unit:
        return (
            f"The storyboard has no prompt for {_seconds(last.end, length)}: extend its last range or shorten the clip."
        )
    if last.start >= length:
        return (
            f"The clip lasts {length:.2f} s, so the storyboard's range {_seconds(last.start, last.end)} is not in it: "
            "make the clip longer or remove the range."
        )
    return None


def reading(text: str, frames: int, fps: int) -> str:
    """What a storyboard means for a clip: its scenes and what of the clip each really covers; "" for an empty one.

    Raises:
        ValueError: with the sentence of what is wrong.
    """
    scenes = parse(text)
    if not scenes:
        return ""
    if wrong := problem(scenes, frames=frames, fps=fps):
        raise ValueError(wrong)
    covered = Counter(scene.start for scene in unit_scenes(scenes, units=units_of(frames), fps=fps))
    parts, first = [], 0
    for scene in sorted(scenes, key=lambda scene: scene.start):
        count = covered[scene.start]
        end = first + count
        shown = _seconds(frames_before(first) / fps, min(frames, frames_before(end)) / fps)
        parts.append(shown if count else f"not the one of {_seconds(scene.start, scene.end)}, it is too short")
        first = end
    return f"{len(parts)} scene{'s' * (len(parts) > 1)}: {', '.join(parts)}."


def cuts(text: str, frames: int, fps: int) -> dict[int, int]:
    """The frames of a clip before each scene, by its number in the order of time; one too short for a unit has none.

    Raises:
        ValueError: with the sentence of what is wrong.
    """
    scenes = sorted(parse(text), key=lambda scene: scene.start)
    if scenes and (wrong := problem(scenes, frames=frames, fps=fps)):
        raise ValueError(wrong)
    shown = unit_scenes(scenes, units=units_of(frames), fps=fps) if scenes else []
    return {number: frames_before(shown.index(one)) for number, one in enumerate(scenes, start=1) if one in shown}


def written(text: str) -> str:
    """A storyboard as its plainest lines, "0-2: what happens", in the order of time.

    Raises:
        ValueError: with the sentence to show; a line that cannot be read.
    """
    scenes = sorted(parse(text), key=lambda scene: scene.start)
    return "\n".join(f"{scene.start:g}-{scene.end:g}: {scene.prompt.strip()}" for scene in scenes)


def frames_before(unit: int) -> int:
    """The frames that are shown before a unit begins, 0 is the first: it has one frame, each other eight."""
    return 1 + UNIT_FRAMES * (unit - 1) if unit else 0


def units_of(frames: int) -> int:
    """The units of a clip of so many frames."""
    return (frames - 1) // UNIT_FRAMES + 1


def unit_prompts(scenes: Sequence[Scene], *, units: int, fps: int) -> list[str]:
    """The prompt of every unit."""
    return [scene.prompt for scene in unit_scenes(scenes, units=units, fps=fps)]


def unit_scenes(scenes: Sequence[Scene], *, units: int, fps: int) -> list[Scene]:
    """The scene of every unit: the last one begun when the middle of the unit is shown."""
    ordered = sorted(scenes, key=lambda scene: scene.start)
    middles = [0.0] + [(1 + UNIT_FRAMES * (unit - 0.5)) / fps for unit in range(1, units)]
    return [next(scene for scene in reversed(ordered) if scene.start <= middle) for middle in middles]


def _plain(letter: str) -> str:
    """One letter as an English keyboard has it; invisible ones are blanks. Never more or fewer than one."""
    if letter.isdecimal():
        return str(unicodedata.decimal(letter))
    if letter in _SIGNS:
        return _SIGNS[letter]
    kind = unicodedata.category(letter)
    if kind in ("Zs", "Cf"):
        return " "
    usual = unicodedata.normalize("NFKC", letter)
    usual = usual if len(usual) == 1 else letter
    return "-" if unicodedata.category(usual) == "Pd" else _SIGNS.get(usual, usual)


def _in_seconds(text: str) -> float:
    """ "1,5" or "1:30" in seconds."""
    minutes, _, seconds = text.rpartition(":")
    return 60 * int(minutes or 0) + float(seconds.replace(",", "."))


def _seconds(start: float, end: float) -> str:
    return f"{round(start, 2):g}-{round(end, 2):g} s"
