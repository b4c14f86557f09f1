"""Videos that people give: which can be used, and what they hold. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import MediaError
from engines.media.files import shown_name, usable_file
from engines.media.pictures import MAX_ASPECT

MAX_FILE_BYTES = 2_000_000_000
MAX_SIDE = 8_192
MIN_SIDE = 16


@dataclass(frozen=True)
class ClipFacts:
    """What a video says of itself.

    Attributes:
        width, height: as stored, in pixels.
        fps: its mean frame rate.
        frames: how many there are, counted from its length where the file does not say.
    """

    width: int
    height: int
    fps: float
    frames: int


def clip_problem(path: Path) -> str | None:
    """Why the video at `path` cannot be used, in one sentence; None if it can."""
    try:
        look_at(path)
    except MediaError as error:
        return error.message
    return None


def look_at(path: Path) -> ClipFacts:
    """What the video at `path` holds; its first frame is decoded to see that it can be.

    Raises:
        MediaError: it is no video by its bytes, has no picture, is damaged, or is too small or too large.
    """
    import av

    name = shown_name(path)
    try:
        with open_container(path) as container:
            stream = picture_of(container, path)
            width, height = stream.codec_context.width, stream.codec_context.height
            _check_size(name, width, height, float(stream.sample_aspect_ratio or 1))
            first = next(container.decode(stream), None)
            facts = ClipFacts(width, height, float(stream.average_rate or 0), _frame_count(container, stream))
    except (av.FFmpegError, OSError, ValueError):
        first = None
    if first is None:
        raise _unread(path)
    return facts


def picture_of(container: Any, path: Path) -> Any:
    """The stream of an opened video that is its picture; the cover of a recording is none.

    Raises:
        MediaError: there is none that can be read.
    """
    from av.stream import Disposition

    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams and container.streams.audio:
        raise MediaError(f"{shown_name(path)} has sound but no picture: choose a video.")
    if not streams or streams[0].codec_context is None:  # a codec that this build of FFmpeg does not have
        raise _unread(path)
    return streams[0]


def _check_size(name: str, width: int, height: int, aspect: float) -> None:
    """Raises MediaError for a picture that is too small, too large or too narrow, as stored or as it is shown."""
    for wide in (width, round(width * aspect) if aspect > 0 else width):
        sides = sorted((wide, height))
        size = f"{name} is {wide:,}x{height:,} pixels"
        if sides[1] > MAX_SIDE or sides[0] < MIN_SIDE:
            possible = f"sides of {MIN_SIDE} to {MAX_SIDE:,} pixels are possible"
            raise MediaError(f"{size}: {possible}, so save it at another size.")
        if sides[1] > MAX_ASPECT * sides[0]:
            raise MediaError(f"{size}: one side may be {MAX_ASPECT} times the other, so cut it first.")


def _unread(path: Path) -> MediaError:
    said = "is damaged, or coded in a way that is not read here"
    return MediaError(f"{shown_name(path)} {said}: save it as an MP4 (H.264).")


def open_container(path: Path) -> Any:
    """The opened video. Its container is told by its bytes: a playlist, for one, would open other files.

    Raises:
        MediaError: it is not there or is no video.
        av.FFmpegError: it is damaged.
    """
    import av

    kind = usable_file(path, "video", most_bytes=MAX_FILE_BYTES)
    if kind is None or kind.sort != "video":
        said = "is not a video, whatever its name says" if kind is None else f"is {kind.name}, not a video"
        raise MediaError(f"{shown_name(path)} {said}: choose an MP4, MOV or WebM file.")
    return av.open(str(path), format=kind.container)


def _frame_count(container: Any, stream: Any) -> int:
    if stream.frames:
        return int(stream.frames)
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (container.duration or 0) / 1e6
    return max(1, round(seconds * float(stream.average_rate or 0)))
