"""What a file is by its first bytes, whatever its name says. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HEAD_BYTES = 4096  # enough of a file to tell what it is

Sort = Literal["picture", "video", "sound", "other"]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: with its article, as it stands in a sentence: "a PNG picture".
        container: of a video, the name that FFmpeg has for it.
    """

    name: str
    sort: Sort
    container: str = ""


_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"

# (where, what stands there) of a format; the first that fits is it.
_MARKS: tuple[tuple[int, bytes, Format], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", Format("a PNG picture", "picture")),
    (0, b"\xff\xd8\xff", Format("a JPEG picture", "picture")),
    (0, b"GIF8", Format("a GIF picture", "picture")),
    (8, b"WEBP", Format("a WebP picture", "picture")),
    (0, b"BM", Format("a BMP picture", "picture")),
    (8, b"CR\x02\x00", Format("a raw picture of a camera", "picture")),
    (0, b"II*\x00", Format("a TIFF picture", "picture")),
    (0, b"MM\x00*", Format("a TIFF picture", "picture")),
    (0, b"II+\x00", Format("a TIFF picture of the large kind", "picture")),
    (0, b"FUJIFILMCCD-RAW", Format("a raw picture of a camera", "picture")),
    (0, b"\xff\x0a", Format("a JPEG XL picture", "picture")),
    (4, b"JXL \r\n\x87\n", Format("a JPEG XL picture", "picture")),
    (4, b"jP  \r\n\x87\n", Format("a JPEG 2000 picture", "picture")),
    (0, b"\xff\x4f\xff\x51", Format("a JPEG 2000 picture", "picture")),
    (0, b"8BPS", Format("a Photoshop document", "picture")),
    (0, b"gimp xcf", Format("a GIMP document", "picture")),
    (0, b"qoif", Format("a QOI picture", "picture")),
    (0, b"v/1\x01", Format("an OpenEXR picture", "picture")),
    (0, b"#?RADIANCE", Format("a Radiance HDR picture", "picture")),
    (0, b"DDS ", Format("a DDS texture", "picture")),
    (0, b"\x00\x00\x01\x00", Format("a Windows icon", "picture")),
    (128, b"DICM", Format("a DICOM picture", "picture")),
    (0, b"%PDF", Format("a PDF document", "other")),
    (0, b"%!PS", Format("a PostScript document", "other")),
    (0, b"\x1aE\xdf\xa3", Format("a Matroska or WebM video", "video", "matroska,webm")),
    (8, b"AVI ", Format("an AVI video", "video", "avi")),
    (0, b"FLV\x01", Format("a Flash video", "video", "flv")),
    (0, b"\x00\x00\x01\xba", Format("an MPEG video", "video", "mpeg")),
    (0, b"OggS", Format("an Ogg file", "video", "ogg")),
    (0, b"0&\xb2u\x8ef\xcf\x11", Format("a Windows Media file", "video", "asf")),
    (8, b"WAVE", Format("a WAV recording", "sound")),
    (0, b"fLaC", Format("a FLAC recording", "sound")),
    (0, b"ID3", Format("an MP3 recording", "sound")),
    (0, b"PK\x03\x04", Format("a zip archive or an office document", "other")),
    (0, b"\x1f\x8b", Format("a compressed archive", "other")),
    (0, b"7z\xbc\xaf'\x1c", Format("a compressed archive", "other")),
    (0, b"Rar!", Format("a compressed archive", "other")),
    (0, b"version https://git-lfs", Format("only a pointer to the real file (Git LFS)", "other")),
)

# The brands of files in boxes, as MP4 has them.
_BRANDS: tuple[tuple[tuple[bytes, ...], Format], ...] = (
    ((b"avif", b"avis"), Format("an AVIF picture", "picture")),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), Format("an HEIC picture", "picture")),
    ((b"crx ",), Format("a raw picture of a camera", "picture")),
    ((b"M4A ", b"M4B "), Format("an M4A recording", "sound")),
    ((b"qt  ",), Format("a QuickTime video", "video", _MP4)),
)
_MP4_VIDEO = Format("an MP4 video", "video", _MP4)
_TS = Format("an MPEG transport stream", "video", "mpegts")


def recognised(head: bytes) -> Format | None:
    """The format of a file from its first HEAD_BYTES bytes; None if it is none that is known here."""
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free"):  # QuickTime files of old begin without a brand
        return Format("a QuickTime video", "video", _MP4)
    if found := next((known for place, mark, known in _MARKS if head[place:].startswith(mark)), None):
        return found
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return _TS
    return _as_markup(head)


def _by_brand(head: bytes) -> Format:
    """Of a file in boxes: its own brand, and those that it says it is compatible with."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[place : place + 4] for place in range(16, length, 4))}
    return next((known for names, known in _BRANDS if brands & set(names)), _MP4_VIDEO)


def _as_markup(head: bytes) -> Format | None:
    if b"\0" in head:
        return None
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start.startswith(b"<"):
        return None
    if b"<!doctype html" in start or b"<html" in start:
        return Format("a web page", "other")
    return Format("an SVG drawing", "other") if b"<svg" in start else None
