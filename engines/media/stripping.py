"""A clip without the settings that made it: picture and sound as they are coded, and the mark stays."""

from __future__ import annotations

from pathlib import Path

from engines.errors import MediaError
from engines.media.clips import open_container
from engines.media.files import shown_name
from engines.media.marking import append_mark, is_marked
from engines.media.output import whole_file


def strip(source: Path, target: Path) -> None:
    """Copy a clip into an mp4 that tells nothing of its making but that a generator made it, if the clip says so.

    Raises:
        MediaError: it cannot be read or written; nothing stands at `target`.
    """
    import av

    try:
        with whole_file(target) as part:
            _copy(source, part)
            if is_marked(source):
                append_mark(part)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{shown_name(source)} could not be copied without its settings.") from error


def _copy(source: Path, target: Path) -> None:
    """Picture and sound of a clip, as they are coded, into an mp4."""
    import av

    with (
        open_container(source) as given,
        av.open(str(target), "w", format="mp4", options={"movflags": "faststart", "fflags": "+bitexact"}) as made,
    ):
        kept = [stream for stream in given.streams if stream.type in ("video", "audio")]
        copies = {stream.index: made.add_stream_from_template(stream) for stream in kept}
        for packet in given.demux(kept):
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                made.mux(packet)
