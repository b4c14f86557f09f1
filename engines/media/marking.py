"""The mark "made by a trained algorithm" (IPTC digital source type) as an XMP packet in clips and pictures."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
XMP_BOX = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")
_MOST_PACKET = 2**20
# A GIF holds XMP as it is behind this name; what reads it as blocks of a length is brought back by the bytes after it.
# Source: XMP specification part 3, GIF.
_GIF_NAME = b"\x21\xff\x0bXMP DataXMP"
_GIF_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"


def append_mark(path: Path) -> None:
    """Write the mark as a top-level box at the end of an mp4."""
    packet = XMP.encode()
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 24 + len(packet), b"uuid") + XMP_BOX.bytes + packet)


def mark_gif(path: Path) -> None:
    """Write the mark into a GIF, behind its head and its colours."""
    content = path.read_bytes()
    flags = content[10]
    place = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    path.write_bytes(content[:place] + _GIF_NAME + XMP.encode() + _GIF_TRAILER + content[place:])


def gif_mark(path: Path) -> bytes:
    """The XMP packet of a GIF; b"" if it has none."""
    _, name, rest = path.read_bytes().partition(_GIF_NAME)
    return rest.partition(_GIF_TRAILER)[0] if name else b""


def is_marked(path: Path) -> bool:
    """Whether an mp4 bears the mark, ours or another program's; False for what is no mp4 or not there."""
    try:
        with path.open("rb") as file:
            for kind, start, length in boxes(path):
                if kind != "uuid" or not 24 <= length <= _MOST_PACKET:
                    continue
                file.seek(start + 8)
                content = file.read(length - 8)
                if content.startswith(XMP_BOX.bytes) and SOURCE_TYPE.encode() in content:
                    return True
    except OSError:
        return False
    return False


def boxes(path: Path) -> Iterator[tuple[str, int, int]]:
    """The top-level boxes of an mp4 in file order: type, where it begins, its length; ends where one is cut short."""
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position + 8 <= size:
            file.seek(position)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1 and position + 16 <= size:
                (length,) = struct.unpack(">Q", file.read(8))
            if length < 8 or position + length > size:
                return
            yield kind.decode("latin-1"), position, length
            position += length
