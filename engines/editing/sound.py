"""Sound for a clip: cut, repeated, faded, and put beside its picture without touching that. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from engines.editing.request import Soundtrack
from engines.editing.source import SOUND_RATE, Made, Source, fitted, read_sound
from engines.errors import MediaError
from engines.media.clips import picture_of

_FRAME = 1024


def soundtrack(asked: Soundtrack, source: Source, session: Any = None) -> Made:
    """The clip with the sound of a file, as long as the picture."""
    if asked.sound is None:
        raise MediaError("Choose a file with sound.")
    heard = read_sound(asked.sound.path)[round(asked.start * SOUND_RATE) :]
    if not len(heard):
        raise MediaError("The sound begins after the end of its file: let it begin earlier.")
    length = round(source.seconds * SOUND_RATE)
    if asked.repeat and len(heard) < length:
        heard = np.tile(heard, (-(-length // len(heard)), 1))
    heard = fitted(heard, source.seconds) * np.float32(asked.volume)
    fade = min(round(asked.fade * SOUND_RATE), length // 2)
    if fade:
        ramp = np.linspace(0, 1, fade, dtype=np.float32)[:, None]
        heard[:fade] *= ramp
        heard[-fade:] *= ramp[::-1]
    notes = ["Parts of the sound were too loud and were cut off."] if float(np.abs(heard).max()) > 1 else []
    return Made(source.frames(), source.count, source.fps, np.clip(heard, -1, 1), notes, untouched=True)


def encode(container: Any) -> Any:
    """An AAC stream of an open container, to be fed by `mux`."""
    stream = container.add_stream("aac", rate=SOUND_RATE, layout="stereo")
    stream.bit_rate = 192_000
    return stream


def mux(container: Any, stream: Any, sound: np.ndarray) -> None:
    """Write all of a sound, float32 [N,2], into its stream."""
    import av

    for start in range(0, len(sound), _FRAME):
        piece = np.ascontiguousarray(sound[start : start + _FRAME].T, dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def add(picture: Path, target: Path, sound: np.ndarray, *, tags: Mapping[str, str]) -> None:
    """Copy a clip into an mp4 with a sound beside its picture, which is not encoded again, and with these tags.

    Raises:
        OSError, av.FFmpegError: it cannot be written.
    """
    import av

    with (
        av.open(str(picture)) as given,
        av.open(str(target), "w", format="mp4", options={"movflags": "faststart"}) as made,
    ):
        made.metadata.update(tags)
        video = made.add_stream_from_template(picture_of(given, picture))
        audio = encode(made)
        for packet in given.demux(picture_of(given, picture)):
            if packet.dts is not None:
                packet.stream = video
                made.mux(packet)
        mux(made, audio, sound)
