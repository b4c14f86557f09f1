"""Reading reference pictures: which can be used, and how they become RGB. Imports no torch."""

from __future__ import annotations

import io
import math
import threading
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, features

from engines.errors import MediaError
from engines.media.files import shown_name, usable_file
from engines.media.formats import Format

MAX_FILE_BYTES = 50_000_000
MAX_SIDE = 16_384
MAX_PIXELS = 64_000_000
MIN_SIDE = 16
MAX_ASPECT = 20

# Only formats that Pillow decodes by itself: EPS, for one, would start another program.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
# From so many pixels on a picture waits for its turn and is made smaller as soon as it is read: no clip is as large.
_LARGE = 16_000_000
# Decoders that hold a picture several times over: fewer pixels for them, and a large one must be as long a file as a
# picture of something is, for a plain surface hides behind a kilobyte.
_HUNGRY, _MOST_OF_HUNGRY = ("WEBP", "AVIF"), 32_000_000
_FEWEST_BYTES_A_PIXEL = 1 / 64
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
# What the bytes of files in these formats are called; such a file that does not open is damaged.
_READABLE = (*(f"a {name} picture" for name in ("PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF")),
             *(("an AVIF picture",) if features.check("avif") else ()))  # fmt: skip
_VISIBLE = 8  # of 255: with less, a viewer shows the background alone
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", *_SIXTEEN_BIT)

_turn = threading.Lock()


def picture_problem(path: Path, *, as_published: bool = False, pixels: bool = True) -> str | None:
    """Why the picture at `path` cannot be used, in one sentence; None if it can.

    Args:
        as_published: how it will be opened, see `open_picture`.
        pixels: whether it is decoded, once while the file stays the same; else its header alone is looked at.
    """
    try:
        if pixels:
            _verdict(path, as_published=as_published)
        else:
            _opened(path)
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
    stamp = _stamp(path, as_published)
    try:
        image = _opened(path)
        large = image.width * image.height > _LARGE
        with _turn if large else nullcontext(), _quiet:
            if large and not as_published:
                image.draft("RGB", (image.width // 2, image.height // 2))  # JPEG alone can be read smaller
            _decode(image, shown_name(path))
            if large and not as_published:
                image = _smaller(image)
            seen = _rgb(image) if as_published else _as_seen(image, shown_name(path))
    except MediaError as error:
        _remember(stamp, error.message)
        raise
    _remember(stamp, None)
    return seen


def _verdict(path: Path, *, as_published: bool) -> None:
    """Raises MediaError for a picture that `open_picture` refuses; decodes only what was not decoded before."""
    stamp = _stamp(path, as_published)
    if stamp not in _verdicts:
        open_picture(path, as_published=as_published)
    elif (problem := _verdicts[stamp]) is not None:
        raise MediaError(problem)


# What became of pictures that were opened, for as long as their files stay the same: (file, way) -> problem or None.
_verdicts: dict[Any, str | None] = {}
_MOST_VERDICTS = 512


def _stamp(path: Path, as_published: bool) -> Any:
    """Names a file's present content; None if there is none, which is remembered of nothing."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return path, status.st_ino, status.st_size, status.st_mtime_ns, as_published


def _remember(stamp: Any, problem: str | None) -> None:
    if stamp is None:
        return
    while len(_verdicts) >= _MOST_VERDICTS:
        _verdicts.pop(next(iter(_verdicts)), None)
    _verdicts[stamp] = problem


def _opened(path: Path) -> Image.Image:
    """The picture with its header read and no pixel decoded. What the header tells is refused here."""
    path = Path(path)
    kind = usable_file(path, "picture", most_bytes=MAX_FILE_BYTES)
    name = shown_name(path)
    try:
        data = io.BytesIO(path.read_bytes())
    except OSError:
        raise MediaError(f"{name} cannot be opened: check its permissions.") from None
    with _quiet:
        try:
            image = Image.open(data, formats=_FORMATS)
            problem = _header_problem(image, data.getbuffer().nbytes)
        except Image.DecompressionBombError:
            raise MediaError(f"{name} is far too large: {_SIZE_LIMIT}") from None
        except Exception:  # a damaged header makes Pillow raise almost anything
            raise MediaError(f"{name} {_what_else(path, kind)}") from None
    if problem:
        raise MediaError(f"{name} {problem}")
    return image


def _decode(image: Image.Image, name: str) -> None:
    """Read the pixels of a picture in its own mode."""
    try:
        image.load()
    except Exception:  # damaged data makes Pillow raise almost anything
        raise MediaError(f"{name} is damaged or incomplete: save or download it again.") from None
    if image.mode == "I" and not 0 <= image.getextrema()[0] <= image.getextrema()[1] < 2**16:
        raise MediaError(f"{name} has 32-bit pixels: save it with 8 or 16 bits a channel.")


def _smaller(image: Image.Image) -> Image.Image:
    """A decoded picture with half its sides, or a third, ..., if it is large; what its file says of it stays."""
    factor = math.ceil(math.sqrt(image.width * image.height / _LARGE))
    if factor < 2 or image.mode not in ("L", "LA", "RGB", "RGBA"):
        return image
    reduced = image.reduce(factor)
    reduced.info = image.info
    return reduced


def _rgb(image: Image.Image) -> Image.Image:
    """As `convert("RGB")`, without a copy of what is RGB."""
    return image if image.mode == "RGB" and "transparency" not in image.info else image.convert("RGB")


_SIZE_LIMIT = f"make it smaller than {MAX_SIDE:,} pixels a side and {MAX_PIXELS / 1e6:.0f} megapixels in all."


def _header_problem(image: Image.Image, size_bytes: int) -> str | None:
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
    if image.format in _HUNGRY and width * height > _MOST_OF_HUNGRY:
        most = f"{_MOST_OF_HUNGRY / 1e6:.0f} megapixels"
        return f"is {width:,}x{height:,} pixels, too many in this format: save it with at most {most}, or as JPEG."
    if image.format in _HUNGRY and width * height > _LARGE and size_bytes < _FEWEST_BYTES_A_PIXEL * width * height:
        size, most = f"{size_bytes / 1e6:.1f} MB", f"{_LARGE / 1e6:.0f} megapixels"
        return f"is {width:,}x{height:,} pixels in {size}, so it shows little: make it smaller than {most}."
    if any(tile[0] in Image.DECODERS for tile in image.tile):  # those written in Python: minutes for a large picture
        return "is stored in a way that takes very long to read: save it as PNG."
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


def _as_seen(image: Image.Image, name: str) -> Image.Image:
    """RGB as a viewer shows the picture; raises MediaError if a viewer shows nothing."""
    profile = image.info.get("icc_profile")
    with suppress(Exception):  # a damaged EXIF block does not spoil the picture
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode in _SIXTEEN_BIT:
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
    elif image.mode != "L":
        image = _rgb(image)
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if alpha is not None:
        if alpha.getextrema()[1] < _VISIBLE:
            raise MediaError(f"{name} is transparent everywhere, so nothing of it can be seen: save it without alpha.")
        image = image.convert("RGB")
    if profile:
        # A profile that is broken or meant for other channels is no profile.
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    image = _rgb(image)
    if alpha is None:
        return image
    seen = Image.new("RGB", image.size, "white")
    seen.paste(image, mask=alpha)
    return seen


def _what_else(path: Path, kind: Format | None) -> str:
    """What to say of a file that Pillow does not open: what it is, and what to do."""
    if kind is None:
        said = "is not a picture, whatever its name says" if path.suffix.lower() in _SUFFIXES else "is no known picture"
        return f"{said}: choose a PNG, JPEG or WebP file."
    match kind.sort:
        case "video":
            return f"is {kind.name}: save one frame of it as a picture."
        case "picture" if kind.name in _READABLE:
            return f"is {kind.name}, but damaged or incomplete: save or download it again."
        case "picture":
            return f"is {kind.name}, which is not read here: save it as PNG, JPEG or WebP."
    return f"is {kind.name}, not a picture: save what it shows as PNG, JPEG or WebP."


class _Quiet:
    """Silences Pillow, whose warnings we answer in sentences, while any thread is inside.

    Filters belong to the process: the first to enter sets them, the last to leave takes them back, and nobody waits.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._filters = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


_quiet = _Quiet()
