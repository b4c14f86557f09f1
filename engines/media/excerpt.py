"""The frames of a given clip that an engine goes on from, at its frame rate and its size. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engines.errors import MediaError
from engines.media.clips import look_at, open_container, picture_of
from engines.media.files import shown_name
from engines.media.video import rgb

_CLOCK_S = 0.002  # containers round times to milliseconds
_SAME_RATE = 0.02  # of the rate: frames of 23.976 a second are taken for 24
_LONGEST_S = 24 * 3600
_LARGE = 3840  # pixels; larger sides are halved as they are read, for no clip is as large
_FAR_S = 5.0  # what lies farther into a clip is sought, not decoded up to
_EXACT = ("mov", "matroska")  # containers with an index of their frames


@dataclass(frozen=True)
class Choice:
    """Which frames of a clip are used.

    Attributes:
        times: when each frame of the file is shown, in seconds, sorted.
        shown: numbers of the file's frames that are seen at the new frame rate, one after the other.
        start, count: where in `shown` the used ones begin, and how many there are.
        told: one sentence that says which these are, and what is done to the clip.
    """

    times: np.ndarray
    shown: np.ndarray
    start: int
    count: int
    told: str

    @property
    def chosen(self) -> np.ndarray:
        """Numbers of the file's frames that are used."""
        return self.shown[self.start : self.start + self.count]


@dataclass(frozen=True)
class Excerpt:
    """Frames of a clip.

    Attributes:
        frames: uint8 [T,H,W,3], all of one size.
        told: one sentence that says which frames these are, and what was done to the clip.
    """

    frames: np.ndarray
    told: str


def fitting(there: int, wanted: int, *, stride: int) -> int:
    """The most frames, stride * n + 1 of them, that a clip of `there` has and that are not more than `wanted`."""
    return (min(there, wanted) - 1) // stride * stride + 1


def choose(path: Path, *, most: int, fewest: int, stride: int, fps: int, moment: float = 1.0) -> Choice:
    """Which frames of the clip at `path` are used: at most `most`, always stride * n + 1, spaced as at `fps`.

    Frames are chosen by their own times, so a clip of a changing rate keeps its pace.

    Args:
        moment: where in the clip they lie, 0 at its begin, 1 at its end.

    Raises:
        MediaError: it cannot be used, see engines.media.clips, or has fewer than `fewest` frames.
    """
    import av

    look_at(path)
    try:
        times = frame_times(path)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _damaged(path) from error
    if len(times) == 0:
        raise _damaged(path)
    if times[-1] - times[0] > _LONGEST_S:
        raise MediaError(
            f"{shown_name(path)} says that it lasts for days: cut the part out that is to be gone on from."
        )
    shown = _on_grid(times, fps)
    count = fitting(len(shown), most, stride=stride)
    if count < fewest:
        have = "only 1 frame" if len(shown) == 1 else f"only {len(shown)} frames"
        need = f"at least {fewest} are needed; or give one of them as a picture"
        raise MediaError(f"{shown_name(path)} has {have}: {need}.")
    start = round(moment * (len(shown) - count))
    return Choice(times, shown, start, count, _told(path, times, shown, start, count, fps))


def read_excerpt(path: Path, *, fit: Callable[[Image.Image], Image.Image], **rules: Any) -> Excerpt:
    """The frames of the clip at `path` that `choose` chooses by these `rules`.

    They are turned as the camera was held; pixels that are not square are made square.

    Args:
        fit: makes a frame of the clip one of the result; called once for each chosen frame.

    Raises:
        MediaError: as `choose`.
    """
    choice = choose(path, **rules)
    frames = frames_of(path, choice.times, choice.chosen, fit=fit)
    if len({frame.shape for frame in frames}) > 1:
        raise MediaError(f"{shown_name(path)} changes its size midway: save it again as an MP4 (H.264) of one size.")
    return Excerpt(np.stack(frames), choice.told)


def frames_of(
    path: Path, times: np.ndarray, numbers: Sequence[int], *, fit: Callable[[Image.Image], Image.Image]
) -> list[np.ndarray]:
    """The frames of a clip with these `numbers`, not falling, each as `fit` makes it; `times` are those of all.

    Raises:
        MediaError: not all of them can be read.
    """
    import av

    try:
        frames = [np.asarray(fit(frame)) for frame in _decoded(path, times, numbers)]
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _damaged(path) from error
    if len(frames) < len(numbers):
        raise _damaged(path)
    return frames


def frame_times(path: Path) -> np.ndarray:
    """When each frame is shown, in seconds, sorted; from the container alone, nothing is decoded."""
    with open_container(path) as container:
        stream = picture_of(container, path)
        base = stream.time_base or Fraction(1, 1000)
        stamps = [packet.pts for packet in container.demux(stream) if packet.size]
        if any(stamp is None for stamp in stamps):  # containers without times: AVI, raw streams
            rate = float(stream.average_rate or 0) or 25.0
            return np.arange(len(stamps)) / rate
        return np.sort(np.array(stamps, dtype=np.float64) * float(base))


def _on_grid(times: np.ndarray, fps: float) -> np.ndarray:
    """Numbers of the frames that are seen at every 1/fps seconds, from the first to the last."""
    rate = _rate(times)
    if rate and abs(rate / fps - 1) < _SAME_RATE and _steady(times):
        return np.arange(len(times))
    moments = times[0] + np.arange(int((times[-1] - times[0]) * fps + 1e-3) + 1) / fps
    return np.searchsorted(times, moments + _CLOCK_S, side="right") - 1


def _rate(times: np.ndarray) -> float:
    """Mean frames a second; 0 for a single frame."""
    return float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 and times[-1] > times[0] else 0.0


def _steady(times: np.ndarray) -> bool:
    """Whether the frames follow each other evenly, as far as a container's clock can tell."""
    gaps = np.diff(times)
    return len(gaps) == 0 or float(np.abs(gaps - gaps.mean()).max()) < 0.25 * float(gaps.mean())


def _decoded(path: Path, times: np.ndarray, chosen: Sequence[int]) -> Iterator[Image.Image]:
    """The frames with these numbers, not falling; one may be asked for again and again."""
    with open_container(path) as container:
        stream = picture_of(container, path)
        stream.thread_type = "AUTO"
        wanted, number = list(chosen), -1
        for frame in _from_before(container, stream, times, wanted[0]):
            number = number + 1 if frame.pts is None else _number(frame, times, after=number)
            if not wanted:
                return
            # A frame that the decoder left out is stood for by the next one.
            if number >= wanted[0]:
                image = _as_seen(frame, stream.sample_aspect_ratio)
                while wanted and number >= wanted[0]:
                    wanted.pop(0)
                    yield image


def _from_before(container: Any, stream: Any, times: np.ndarray, number: int) -> Iterator[Any]:
    """Decoded frames up to the end, from the begin or from somewhere before frame `number`."""
    if times[number] - times[0] > _FAR_S and container.format.name.startswith(_EXACT):
        container.seek(int(times[number] / stream.time_base), stream=stream)
        first = next(container.decode(stream), None)
        if first is not None and first.pts is not None and first.pts * first.time_base <= times[number] + 1e-6:
            yield first
        else:  # the index is wrong
            container.seek(int(times[0] / stream.time_base), stream=stream)
    yield from container.decode(stream)


def _number(frame: Any, times: np.ndarray, *, after: int) -> int:
    found = int(np.searchsorted(times, float(frame.pts * frame.time_base) - 1e-6))
    return max(after + 1, found) if found < len(times) else after + 1


def _as_seen(frame: Any, aspect: Fraction | None) -> Image.Image:
    """RGB of one frame, its pixels square, turned upright."""
    smaller = -(-max(frame.width, frame.height) // _LARGE)
    image = Image.fromarray(rgb(frame, smaller=smaller))
    if aspect and aspect > 0 and aspect != 1:
        image = image.resize((max(1, round(image.width * float(aspect))), image.height), Image.Resampling.LANCZOS)
    turned = frame.rotation % 360
    return image.rotate(turned, expand=True) if turned else image


def _told(path: Path, times: np.ndarray, shown: np.ndarray, start: int, count: int, fps: int) -> str:
    """The sentence of an excerpt."""
    name, rate = shown_name(path), _rate(times)
    which = f"all {count} frames" if count == len(shown) else f"frames {start + 1} to {start + count} of {len(shown)}"
    if len(times) > 1 and not _steady(times):
        return f"The clip goes on from {which} of {name}, whose frame rate changes: they are taken at {fps} a second."
    if rate and abs(rate / fps - 1) >= _SAME_RATE:
        slow = ", some of them twice" if rate < fps else ""
        return f"The clip goes on from {which} of {name}, taken at {fps} a second from {rate:.3g}{slow}."
    return f"The clip goes on from {which} of {name}."


def _damaged(path: Path) -> MediaError:
    return MediaError(
        f"{shown_name(path)} is damaged: not all of its frames can be read. Save it again as an MP4 (H.264)."
    )
