"""Words in the picture: captions with their times, set by moviepy and burnt into the frames. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engines.wording import given

if TYPE_CHECKING:
    from engines.editing.source import Made, Source

_TIME = r"(?:(?:(\d{1,2}):)?(\d{1,2}):)?(\d{1,4}(?:[.,]\d{1,3})?)"
_RANGE = re.compile(rf"\s*{_TIME}\s*s?\s*(?:-->|-|–)\s*{_TIME}\s*s?\s*")
_LINE = re.compile(rf"{_RANGE.pattern}:\s*(?P<words>.*)")
_MOST = 500


class Caption(NamedTuple):
    """Some words from `start` to `end`, in seconds; an `end` of infinity is the clip's own."""

    start: float
    end: float
    words: str


def parse(text: str) -> list[Caption]:
    """The captions of a text: SRT, lines such as "0-2: words", or words for the whole clip.

    Raises:
        ValueError: with the sentence of what is wrong.
    """
    if not text.strip():
        raise ValueError("Write a caption.")
    found = _of_srt(text) if "-->" in text else _of_lines(text)
    if len(found) > _MOST:
        raise ValueError(f"These are {len(found)} captions: at most {_MOST} are possible.")
    for caption in found:
        if caption.end <= caption.start:
            raise ValueError(f"A caption ends before it begins: swap the times of {given(caption.words)}.")
    return found


def _of_lines(text: str) -> list[Caption]:
    lines = [line for line in text.splitlines() if line.strip()]
    timed = [_LINE.fullmatch(line) for line in lines]
    if not any(timed):
        return [Caption(0, float("inf"), "\n".join(line.strip() for line in lines))]
    found = []
    for line, match in zip(lines, timed, strict=True):
        if match is None:
            raise ValueError(f"Write each caption as 0-2: words; you gave {given(line.strip())}.")
        if not match["words"].strip():
            raise ValueError(f"There is a caption without words: {given(line.strip())}.")
        found.append(Caption(_seconds(match.groups()[:3]), _seconds(match.groups()[3:6]), match["words"].strip()))
    return found


def _of_srt(text: str) -> list[Caption]:
    found = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip()):
        lines = block.splitlines()
        place = next((index for index, line in enumerate(lines) if "-->" in line), None)
        if place is None:
            continue  # a heading such as WEBVTT
        match = _RANGE.match(lines[place])
        words = "\n".join(re.sub(r"<[^>]{0,100}>", "", line).strip() for line in lines[place + 1 :]).strip()
        if match is None:
            raise ValueError(f"This is no time of a caption: {given(lines[place].strip())}.")
        if words:
            found.append(Caption(_seconds(match.groups()[:3]), _seconds(match.groups()[3:6]), words))
    if not found:
        raise ValueError("These subtitles hold no words.")
    return found


def _seconds(parts: Any) -> float:
    hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in parts)
    return 3600 * hours + 60 * minutes + seconds


def burn(asked: Any, source: Source, session: Any = None) -> Made:
    """The clip with its captions."""
    from engines.editing.source import Made

    shown = parse(asked.text)
    height = source.size[1]

    def frames() -> Iterator[np.ndarray]:
        for index, frame in enumerate(source.frames()):
            now = float(index / source.fps)
            words = "\n".join(caption.words for caption in shown if caption.start <= now + 1e-6 < caption.end)
            yield _written(frame, words, asked.place, max(6, round(height * asked.size / 100))) if words else frame

    late = [caption for caption in shown if caption.start >= source.seconds]
    notes = [f"{len(late)} of {len(shown)} captions come after the end of the clip."] if late else []
    return Made(frames(), source.count, source.fps, source.sound(), notes)


def _written(frame: np.ndarray, words: str, place: str, size: int) -> np.ndarray:
    """A frame, uint8 [H,W,3], with words across it."""
    height, width = frame.shape[:2]
    letters, alpha = lettering(words, width=width, most_height=height, size=size)
    gap = min(max(1, height // 24), height - len(letters))
    top = {"top": gap, "middle": (height - len(letters)) // 2, "bottom": height - len(letters) - gap}[place]
    left = (width - letters.shape[1]) // 2
    here = (slice(top, top + letters.shape[0]), slice(left, left + letters.shape[1]))
    written = frame.copy()
    written[here] = np.rint(frame[here] * (1 - alpha) + letters * alpha).astype(np.uint8)
    return written


@lru_cache(maxsize=32)
def lettering(words: str, *, width: int, most_height: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Words as a picture, uint8 [h,w,3], and how much of it covers what is below, float [h,w,1], both within the frame.

    White letters with a dark edge, in lines that fit.
    """
    from moviepy.video.VideoClip import TextClip

    clip = TextClip(
        text=words, font=_font(words), font_size=size, color="white", stroke_color="black",
        stroke_width=max(1, size // 10), method="caption", size=(round(width * 0.94), None), text_align="center",
        margin=(0, max(1, size // 5)),
    )  # fmt: skip
    picture, mask = clip.get_frame(0), clip.mask.get_frame(0)
    return picture[:most_height, :width].astype(np.float32), mask[:most_height, :width, None].astype(np.float32)


def _font(words: str) -> str | None:
    """A font of this machine that has all the letters; None for the one that comes with Pillow, where it has them."""
    import shutil
    import subprocess

    if words.isascii() or (finder := shutil.which("fc-match")) is None:
        return None
    letters = " ".join(f"{ord(letter):x}" for letter in sorted(set(words)) if not letter.isspace())
    asked = [finder, "--format=%{file}", f"sans:charset={letters}"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=10)
    return found.stdout if found.returncode == 0 and found.stdout.endswith((".ttf", ".otf", ".ttc")) else None
