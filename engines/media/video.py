"""Frames streamed into an mp4 and back out of it, the poster, and the small moving preview. Imports no torch."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import MediaError
from engines.media.marking import XMP, append_mark, boxes
from engines.media.output import media_error

if TYPE_CHECKING:
    from PIL import Image

CRF = 18
LOOKAHEAD = 20  # frames that x264 holds back before it encodes; its own 40 left half of a clip for after the decoding
PREVIEW_FRAMES = 16
PLAYBACK_FRAMES = 64
_PREVIEW_SIDE = 256
_BT709 = 1


class VideoWriter:
    """An H.264 mp4 written frame by frame; memory does not grow with its length.

    Args:
        path: the file to write, best a temporary name (see engines.media.output).
        fps: frames per second.
        tags: plain mp4 tags: "title", "comment", "description", ...
        crf: quality, 0 (lossless) to 51; 18 shows no loss to the eye.
        marked: whether the file says that a generator made it.
    """

    def __init__(
        self, path: Path, *, fps: int | Fraction, tags: Mapping[str, str], crf: int = CRF, marked: bool = True
    ) -> None:
        import av

        self.frame_count = 0
        self._path, self._fps, self._crf, self._marked = path, fps, crf, marked
        self._stream: Any = None
        try:
            self._container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        except (OSError, av.FFmpegError) as error:
            raise media_error(error) from error
        self._container.metadata.update(tags)

    def write(self, pixels: np.ndarray) -> None:
        """Append frames, uint8 [T, H, W, 3]; an odd width or height is padded by one row of the edge."""
        import av

        height, width = pixels.shape[1:3]
        if height % 2 or width % 2:
            pixels = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        try:
            if self._stream is None:
                self._stream = self._open_stream(pixels.shape[2], pixels.shape[1])
            for picture in pixels:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame = frame.reformat(
                    format="yuv420p", src_color_range="JPEG", dst_color_range="MPEG", dst_colorspace="ITU709"
                )
                frame.pts = self.frame_count
                self._container.mux(self._stream.encode(frame))
                self.frame_count += 1
        except (OSError, av.FFmpegError) as error:
            raise media_error(error) from error

    def close(self) -> None:
        """Finish the file, mark it as made by a generator, and make sure that all of it reached the disk."""
        import av

        if self._stream is None:
            raise MediaError("The engine made no frames, so there is no clip to write.")
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            if self._marked:
                append_mark(self._path)
            complete = {"ftyp", "moov", "mdat", *(["uuid"] if self._marked else [])} <= set(box_names(self._path))
        except (OSError, av.FFmpegError) as error:
            raise media_error(error) from error
        if not complete:
            raise MediaError("The clip could not be written completely.", hint="Check the free space of the disk.")

    def abort(self) -> None:
        """Let go of the file without finishing it; the caller removes it."""
        import av

        self._stream = None
        try:
            self._container.close()
        except (OSError, av.FFmpegError):
            return

    def _open_stream(self, width: int, height: int) -> Any:
        stream = self._container.add_stream(
            "libx264",
            rate=self._fps,
            options={"crf": str(self._crf), "preset": "medium", "rc-lookahead": str(LOOKAHEAD)},
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, self._fps)
        codec = stream.codec_context
        # With more threads x264 gives other pixels from run to run on a busy machine. One thread is not the whole cure:
        # see the test of it in tests/engines/test_media.py.
        codec.thread_count = 1
        codec.colorspace = codec.color_primaries = codec.color_trc = codec.color_range = _BT709
        return stream


def frame_count(path: Path) -> int:
    """How many frames the clip at `path` says that it has; raises MediaError for what is no clip."""
    import av

    try:
        with av.open(str(path)) as container:
            return int(container.streams.video[0].frames)
    except (OSError, av.FFmpegError, IndexError) as error:
        raise MediaError("This is no clip that can be read.") from error


def read_frames(path: Path) -> Generator[np.ndarray, None, None]:
    """The frames of a clip one by one, uint8 [H, W, 3], in its own colours (BT.709 for ours).

    Raises:
        MediaError: the file is gone, damaged or no video.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError(f"{path.name} holds no pictures.")
            for frame in container.decode(video=0):
                yield rgb(frame)
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"{path.name} cannot be read: it is damaged or was removed.") from error


def rgb(frame: Any, *, smaller: int = 1) -> np.ndarray:
    """The pixels of a decoded frame, uint8 [H, W, 3], in its own colours; with sides so many times smaller."""
    size = {"width": frame.width // smaller, "height": frame.height // smaller, "interpolation": "AREA"}
    pixels: np.ndarray = frame.to_ndarray(
        format="rgb24",
        src_colorspace="ITU709" if frame.colorspace == _BT709 else None,
        **(size if smaller > 1 else {}),
    )
    return pixels


def read_frame(path: Path, index: int) -> np.ndarray:
    """Frame `index` of a clip, uint8 [H, W, 3]; -1 is the last.

    Raises:
        MediaError: as read_frames, or the clip has no such frame.
    """
    with closing(read_frames(path)) as frames:
        found = next(islice(frames, index, None), None) if index >= 0 else next(iter(deque(frames, maxlen=1)), None)
    if found is None:
        raise MediaError(f"{path.name} has no frame {index + 1}.")
    return found


def box_names(path: Path) -> list[str]:
    """Types of the top-level boxes of an mp4 in file order; ends early where a box is cut short."""
    return [kind for kind, _, _ in boxes(path)]


def write_poster(path: Path, pixels: np.ndarray, *, parameters: str, marked: bool = True) -> None:
    """One frame, uint8 [H, W, 3], as PNG with its settings in the text chunk `parameters`, if there are any."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if parameters:
        info.add_itxt("parameters", parameters)
    if marked:
        info.add_itxt("XML:com.adobe.xmp", XMP)
        info.add_text("Description", "AI-generated picture")
    try:
        Image.fromarray(pixels).save(path, format="PNG", pnginfo=info)
    except OSError as error:
        raise media_error(error) from error


def preview_bytes(pixels: Sequence[np.ndarray] | np.ndarray, *, fps: float = 8, most: int = PREVIEW_FRAMES) -> bytes:
    """Frames, uint8 [T, H, W, 3], as a small looping WebP of at most `most` frames at `fps`, its long side 256 px."""
    return _looping([_resized(pixels[index]) for index in _spread(len(pixels), most)], fps=fps, quality=60)


def playback_bytes(small: Sequence[np.ndarray], *, fps: float, mark: bytes = b"") -> bytes:
    """Frames as `reduced` gives them as a looping WebP that lasts as long as they do at `fps`, some left out.

    Args:
        mark: what the file says of itself (its XMP), if anything.
    """
    from PIL import Image

    shown = _spread(len(small), PLAYBACK_FRAMES)
    images = [Image.fromarray(small[index]) for index in shown]
    return _looping(images, fps=fps * len(shown) / len(small), quality=80, mark=mark)


def _spread(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` of `count` frames, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def _looping(images: list[Image.Image], *, fps: float, quality: int, mark: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    duration_ms = round(1000 / fps)
    images[0].save(
        buffer, "WEBP", save_all=True, append_images=images[1:], duration=duration_ms, loop=0, quality=quality,
        method=0, xmp=mark,
    )  # fmt: skip
    return buffer.getvalue()


def reduced(pixels: np.ndarray) -> list[np.ndarray]:
    """Frames, uint8 [T, H, W, 3], one by one at the size of a preview; smaller ones as they are."""
    small = max(pixels.shape[1:3]) <= _PREVIEW_SIDE
    return [frame if small else np.asarray(_resized(frame)) for frame in pixels]


def _resized(picture: np.ndarray) -> Image.Image:
    from PIL import Image

    image = Image.fromarray(picture)
    scale = _PREVIEW_SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)
