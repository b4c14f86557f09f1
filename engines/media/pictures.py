"""Reading reference pictures: which can be used, and how they become RGB. Imports no torch."""

from __future__ import annotations

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from engines.errors import MediaError
from engines.media.framing import CutOut, cover_frame, crop_to_cover, cut_out, fit_on_canvas

__all__ = ["CutOut", "cover_frame", "crop_to_cover", "cut_out", "fit_on_canvas", "open_picture", "picture_problem"]

MAX_FILE_BYTES = 50_000_000
MAX_SIDE = 16_384
MAX_PIXELS = 64_000_000
MIN_SIDE = 16
MAX_ASPECT = 20

# Only formats that Pillow decodes by itself: EPS, for one, would start another program.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", *_SIXTEEN_BIT)

_filters = threading.Lock()


def picture_problem(path: Path) -> str | None:
    """Why the picture at `path` cannot be used, in one sentence; None if it can."""
    try:
        _read(path)
    except MediaError as error:
        return error.message
    return None


def open_picture(path: Path, *, as_published: bool) -> Image.Image:
    """The picture at `path` as RGB.

    Args:
        as_published: only `convert("RGB")`, as the published code does. Otherwise the picture is turned as the camera
            was held, its colour profile becomes sRGB, 16 bits are scaled to 8 and transparency lies on white.

    Raises:
        MediaError: with the sentence of `picture_problem`.
    """
    image = _read(path)
    with _no_warnings():
        return image.convert("RGB") if as_published else _as_seen(image)


def _read(path: Path) -> Image.Image:
    """The decoded picture in its own mode. What the header tells is refused before any pixel is decoded."""
    path = Path(path)
    name = _shown_name(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        raise MediaError(f"There is no picture {name}: check the file name.") from None
    except (OSError, ValueError):
        raise MediaError(f"{name} cannot be opened: check the file name and its permissions.") from None
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{name} is not a file: choose a picture file.")
    if status.st_size == 0:
        raise MediaError(f"{name} is empty: choose another file.")
    if status.st_size > MAX_FILE_BYTES:
        megabytes = status.st_size / 1e6
        raise MediaError(f"{name} is {megabytes:,.0f} MB large: save it with at most {MAX_FILE_BYTES / 1e6:.0f} MB.")
    try:
        data = io.BytesIO(path.read_bytes())
    except OSError:
        raise MediaError(f"{name} cannot be opened: check its permissions.") from None

    with _no_warnings():
        try:
            image = Image.open(data, formats=_FORMATS)
        except Image.DecompressionBombError:
            raise MediaError(f"{name} is far too large: {_SIZE_LIMIT}") from None
        except Exception:  # a damaged header makes Pillow raise almost anything
            raise MediaError(f"{name} {_what_else(path)}") from None
        try:
            problem = _header_problem(image)
            if not problem:
                image.load()
        except Exception:  # damaged data, likewise
            problem = "is damaged or incomplete: save or download it again."
        if problem:
            raise MediaError(f"{name} {problem}")
        if image.mode == "I" and not 0 <= image.getextrema()[0] <= image.getextrema()[1] < 2**16:
            raise MediaError(f"{name} has 32-bit pixels: save it with 8 or 16 bits a channel.")
    return image


_SIZE_LIMIT = f"make it smaller than {MAX_SIDE:,} pixels a side and {MAX_PIXELS / 1e6:.0f} megapixels in all."


def _header_problem(image: Image.Image) -> str | None:
    """Why a picture is refused before decoding: the sentence after its name."""
    width, height = image.size
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        return f"is {width:,}x{height:,} pixels: {_SIZE_LIMIT}"
    if min(width, height) < MIN_SIDE:
        return f"is only {width}x{height} pixels: both sides need at least {MIN_SIDE}."
    if max(width, height) > MAX_ASPECT * min(width, height):
        return (
            f"is {width}x{height} pixels, too thin a strip: crop it so that one side is at most {MAX_ASPECT} times "
            "the other."
        )
    # MPO is a JPEG of a phone that carries a second view; the first is the picture.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        return "holds more than one picture or is animated: save one frame of it as a picture."
    if image.mode == "CMYK":
        return "is in print colours (CMYK): save it as RGB."
    if image.mode == "F":
        return "has floating-point pixels: save it with 8 or 16 bits a channel."
    if image.mode not in _MODES:
        return f"is in {image.mode} colours: save it as RGB."
    return None


def _as_seen(image: Image.Image) -> Image.Image:
    """RGB as a viewer shows the picture."""
    profile = image.info.get("icc_profile")
    with suppress(Exception):  # a damaged EXIF block does not spoil the picture
        image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BIT:
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode != "L":
        image = image.convert("RGB")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if alpha is not None:
        image = image.convert("RGB")
    if profile:
        # A profile that is broken or meant for other channels is no profile.
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    image = image.convert("RGB")
    if alpha is None:
        return image
    seen = Image.new("RGB", image.size, "white")
    seen.paste(image, mask=alpha)
    return seen


def _what_else(path: Path) -> str:
    if path.suffix.lower() in _SUFFIXES:
        return "is not a picture, whatever its name says: choose a PNG, JPEG or WebP file."
    return "is not a picture that can be read: save it as PNG, JPEG or WebP."


def _shown_name(path: Path) -> str:
    """The file's own name in quotes, fit for a sentence: no folder, no control characters, not endless."""
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return f'"{name}"' if len(name) <= 80 else f'"{name[:40]}...{name[-37:]}"'


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Silences Pillow, whose warnings we answer in sentences. One thread at a time: filters belong to the process."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
