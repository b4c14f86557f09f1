"""The clip that is edited, as frames and sound; and what an edit makes of it. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, repeat
from pathlib import Path

import numpy as np
from PIL import Image

from engines.errors import MediaError
from engines.media.clips import look_at, open_container, picture_of
from engines.media.excerpt import frame_times
from engines.media.files import shown_name
from engines.media.video import rgb

SOUND_RATE = 48_000
_BLOCK = 48
_MOST_FPS = 60  # of a clip whose own rate changes


@dataclass(frozen=True)
class Made:
    """What an edit makes.

    Attributes:
        frames: uint8 [H,W,3] one by one, `count` of them.
        sound: float32 [N,2] at SOUND_RATE, -1..1; None for silence.
        untouched: whether the picture stays as it is coded, where an mp4 can hold it.
        save: writes the frames itself in place of an mp4: (path, frames, fps, comment, marked).
    """

    frames: Iterator[np.ndarray]
    count: int
    fps: Fraction
    sound: np.ndarray | None = None
    notes: Sequence[str] = ()
    untouched: bool = False
    save: Callable[[Path, Iterator[np.ndarray], Fraction, str, bool], None] | None = None


@dataclass(frozen=True)
class Source:
    """A clip on the disk.

    Attributes:
        is_h264: whether its picture can stand in an mp4 as it is.
        size: width and height of its frames as they are seen: upright.
        count: how many frames there are.
        shown: where its own rate changes, the number of the frame that is seen in each 1/fps of it, never falling.
    """

    path: Path
    size: tuple[int, int]
    fps: Fraction
    count: int
    shown: Sequence[int] | None = None
    has_sound: bool = field(default=False)
    is_h264: bool = field(default=False)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return float(self.count / self.fps)

    def frames(self, start: int = 0, end: int | None = None) -> Iterator[np.ndarray]:
        """Frames from `start` up to, not with, `end`: uint8 [H,W,3]."""
        with closing(self._in_time()) as frames:
            yield from islice(frames, start, self.count if end is None else end)

    def backwards(self) -> Iterator[np.ndarray]:
        """All frames, the last first. A block of them is held at a time; each block is decoded anew."""
        for start in reversed(range(0, self.count, _BLOCK)):
            yield from reversed(list(self.frames(start, start + _BLOCK)))

    def sound(self) -> np.ndarray | None:
        """Its sound, as long as its picture; None where it has none."""
        return fitted(read_sound(self.path), self.seconds) if self.has_sound else None

    def _in_time(self) -> Iterator[np.ndarray]:
        if self.shown is None:
            yield from self._decoded()
            return
        often = Counter(self.shown)
        with closing(self._decoded()) as frames:
            for number, frame in enumerate(frames):
                yield from repeat(frame, often[number])

    def _decoded(self) -> Iterator[np.ndarray]:
        import av

        try:
            with open_container(self.path) as container:
                for frame in container.decode(picture_of(container, self.path)):
                    turned = frame.rotation % 360
                    pixels = rgb(frame)
                    yield np.rot90(pixels, turned // 90).copy() if turned else pixels
        except (av.FFmpegError, OSError, ValueError) as error:
            raise damaged(self.path) from error


def open_source(path: Path) -> Source:
    """The clip at `path`; its packets are counted, its first frame is decoded.

    Raises:
        MediaError: it cannot be used, see engines.media.clips.
    """
    import av

    facts = look_at(path)
    try:
        with open_container(path) as container:
            stream = picture_of(container, path)
            told = stream.average_rate or Fraction(25)
            sounds = bool(container.streams.audio)
            coded = stream.codec_context.name == "h264"
        with open_container(path) as container:
            first = next(container.decode(picture_of(container, path)))
            turned = first.rotation % 180 != 0
        times = frame_times(path)
    except (av.FFmpegError, OSError, ValueError, StopIteration) as error:
        raise damaged(path) from error
    size = (facts.height, facts.width) if turned else (facts.width, facts.height)
    fps, shown = _in_step(times, Fraction(told))
    return Source(path, size, fps, max(1, len(times) if shown is None else len(shown)), shown, sounds, coded)


def _in_step(times: np.ndarray, told: Fraction) -> tuple[Fraction, list[int] | None]:
    """The rate that a clip is edited at, and what is seen in each of its steps, None where its frames are that.

    Args:
        times: of its frames in seconds, sorted.
        told: frames a second, as the file says; believed where the frames keep to it.
    """
    gaps = np.diff(times)
    if not len(gaps) or times[-1] <= times[0]:
        return told, None
    mean = (times[-1] - times[0]) / len(gaps)
    for rate in (told, Fraction(1 / mean).limit_denominator(1001)):
        if rate and np.abs(times - times[0] - np.arange(len(times)) / float(rate)).max() < mean:
            return rate, None
    fps = min(_MOST_FPS, max(1, round(1 / max(np.quantile(gaps, 0.1), 1e-3))))
    steps = max(1, round((times[-1] - times[0] + gaps[-1]) * fps))
    moments = times[0] + (np.arange(steps) + 0.5) / fps
    return Fraction(fps), (np.searchsorted(times, moments, side="right") - 1).tolist()


def damaged(path: Path) -> MediaError:
    """What to say of a clip that cannot be read to its end."""
    return MediaError(f"{shown_name(path)} is damaged: not all of it can be read. Save it again as an MP4 (H.264).")


def read_sound(path: Path) -> np.ndarray:
    """The first sound of a file, float32 [N,2] at SOUND_RATE.

    Raises:
        MediaError: there is none, or it is damaged.
    """
    import av

    name = shown_name(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise MediaError(f"{name} has no sound: choose a file with sound.")
            resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SOUND_RATE)
            pieces = [
                part.to_ndarray()
                for frame in [*container.decode(audio=0), None]
                for part in resampler.resample(frame)
            ]  # fmt: skip
    except (av.FFmpegError, OSError, ValueError) as error:
        choose = "choose a WAV, MP3, M4A, FLAC or Ogg file"
        raise MediaError(f"{name} holds no sound that can be read: {choose}.") from error
    if not pieces:
        raise MediaError(f"{name} holds no sound: choose another file.")
    return np.concatenate(pieces, axis=1).T.astype(np.float32)


def fitted(sound: np.ndarray, seconds: float) -> np.ndarray:
    """Sound of this length: cut, or with silence behind it."""
    length = round(seconds * SOUND_RATE)
    return np.pad(sound[:length], ((0, max(0, length - len(sound))), (0, 0)))


def resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame that fills `size` (width, height), its middle, nothing stretched."""
    from PIL import ImageOps

    if frame.shape[1::-1] == size:
        return frame
    return np.asarray(ImageOps.fit(Image.fromarray(frame), size, Image.Resampling.LANCZOS))
