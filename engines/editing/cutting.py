"""Edits that only choose among frames: a part, another clip behind, backwards, again and again. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import numpy as np

from engines.editing.request import Join, Loop, Reverse, Trim
from engines.editing.source import SOUND_RATE, Made, Source, open_source, resized
from engines.errors import MediaError


def trim(asked: Trim, source: Source, session: Any = None) -> Made:
    """The frames from one moment to another; at least one."""
    first = round(asked.start * source.fps)
    last = min(source.count, round(asked.end * source.fps)) if asked.end else source.count
    if first >= source.count:
        raise MediaError(f"The clip lasts {source.seconds:.2f} s: let the part begin earlier.")
    last = max(last, first + 1)
    sound = source.sound()
    if sound is not None:
        rate = SOUND_RATE / float(source.fps)
        sound = sound[round(first * rate) : round(last * rate)]
    return Made(source.frames(first, last), last - first, source.fps, sound)


def reverse(asked: Reverse, source: Source, session: Any = None) -> Made:
    """All frames backwards."""
    sound = source.sound()
    return Made(source.backwards(), source.count, source.fps, None if sound is None else sound[::-1])


def loop(asked: Loop, source: Source, session: Any = None) -> Made:
    """All frames several times; there and back shows neither end twice in a row."""
    sound = source.sound()
    if asked.way == "again":
        frames = chain.from_iterable(source.frames() for _ in range(asked.times))
        heard = None if sound is None else np.tile(sound, (asked.times, 1))
        return Made(frames, asked.times * source.count, source.fps, heard)

    def there_and_back() -> Iterator[np.ndarray]:
        for time in range(asked.times):
            yield from source.frames(min(1, time) if source.count > 1 else 0)
            yield from islice(source.backwards(), 1, None)

    count = asked.times * 2 * (source.count - 1) + 1 if source.count > 1 else asked.times
    if sound is not None:
        step = round(SOUND_RATE / float(source.fps))
        sound = np.concatenate([sound, *[sound[-step::-1], sound[step:]] * asked.times])[: count * step]
    return Made(there_and_back(), count, source.fps, sound)


def join(asked: Join, source: Source, session: Any = None) -> Made:
    """Another clip behind the first, at its size and rate, over a cross-fade of at most half of either."""
    if asked.then is None:
        raise MediaError("Choose the clip that follows.")
    other = open_source(asked.then.path)
    following = max(1, round(other.seconds * source.fps))
    over = min(round(asked.fade * source.fps), source.count // 2, following // 2)

    def frames() -> Iterator[np.ndarray]:
        yield from source.frames(0, source.count - over)
        second = _at_rate(other, source, following)
        for index, (old, new) in enumerate(zip(source.frames(source.count - over), islice(second, over), strict=False)):
            share = (index + 1) / (over + 1)
            yield np.rint(old * (1 - share) + new * share).astype(np.uint8)
        yield from second

    notes = []
    if other.size != source.size:
        notes.append(f"The second clip was fitted to {source.size[0]} × {source.size[1]} pixels.")
    return Made(frames(), source.count + following - over, source.fps, _joined(source, other, over), notes)


def _at_rate(other: Source, like: Source, count: int) -> Iterator[np.ndarray]:
    """`count` frames of a clip, as seen at another clip's moments and in its size."""
    wanted = [min(other.count - 1, int(index * other.fps / like.fps)) for index in range(count)]
    place = 0
    for number, frame in enumerate(other.frames()):
        shown = None
        while place < count and wanted[place] == number:
            shown = resized(frame, like.size) if shown is None else shown
            place += 1
            yield shown


def _joined(source: Source, other: Source, over: int) -> np.ndarray | None:
    """Both sounds, going over into each other as the pictures do; None where neither has one."""
    if not (source.has_sound or other.has_sound):
        return None
    silent = [np.zeros((round(one.seconds * SOUND_RATE), 2), np.float32) for one in (source, other)]
    first, second = (mute if (sound := one.sound()) is None else sound
                     for one, mute in zip((source, other), silent, strict=True))  # fmt: skip
    length = min(round(over / float(source.fps) * SOUND_RATE), len(first), len(second))
    share = np.linspace(0, 1, length, dtype=np.float32)[:, None]
    mixed = first[len(first) - length :] * (1 - share) + second[:length] * share
    return np.concatenate([first[: len(first) - length], mixed, second[length:]])
