"""One edit from request to published file, as one generator of typed events. Imports no torch itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from engines.editing import sound, spec
from engines.editing.request import EditRequest
from engines.editing.source import Made, open_source
from engines.editing.spec import EditSpec
from engines.errors import MediaError, StudioError
from engines.events import Clip, Done, Note, Stage, Step
from engines.media import metadata
from engines.media.credentials import signed
from engines.media.marking import append_mark, is_marked
from engines.media.output import Output, media_error
from engines.media.video import VideoWriter, write_poster

_CHUNK = 8


def run(
    edit: EditSpec,
    asked: EditRequest,
    *,
    output_dir: Path,
    job_id: str,
    session: Callable[[], Any],
    inside: bool = True,
    certificate: Path | None = None,
) -> Generator[Any, None, None]:
    """Make the edited clip and yield Stage, Step, Note and, last, Done. Closing the generator leaves nothing behind.

    What comes out bears the mark of a generated clip where one of the clips that went in does.

    Args:
        session: opens the device, for edits in which a network works.
        inside: whether the clip carries its settings; the sidecar does in any case.
        certificate: signs what bears the mark; where it cannot, a note says why.

    Raises:
        StudioError: with a sentence for people; the cause of anything unforeseen is chained.
    """
    with Output(Path(output_dir), job_id) as output:
        try:
            yield from _events(edit, asked, output, session, inside, certificate)
        except StudioError:
            raise
        except OSError as error:
            raise media_error(error) from error
        except MemoryError as error:
            raise MediaError("There was not enough memory for this edit.", hint="Trim the clip first.") from error


def _events(
    edit: EditSpec,
    asked: EditRequest,
    output: Output,
    session: Callable[[], Any],
    inside: bool,
    certificate: Path | None,
) -> Iterator[Any]:
    began = time.monotonic()
    yield Stage(name="Reading the clip")
    assert asked.clip is not None
    source = open_source(asked.clip.path)
    made: Made = spec.implementation(edit)(asked, source, session)
    for note in made.notes:
        yield Note(message=note)
    told = metadata.describe_edit(edit.engine, asked, source=source.path, notes=made.notes)
    marked = any(is_marked(path) for path in _clips(asked)) or any(one.get("engine") for one in told.made_from)
    suffix = edit.suffix(asked)
    part = output.part(suffix)
    yield Stage(name=edit.title)
    counted = _Counted(made)
    tags = metadata.tags(told, inside=inside, marked=marked)
    if made.save is not None:
        yield from _saved(made, counted, part, tags.get("comment", ""), marked)
    elif made.untouched and source.is_h264 and made.sound is not None:
        counted.first, counted.count = next(source.frames()), source.count
        _sounding(source.path, part, made.sound, tags, marked)
    else:
        yield from _written(made, counted, part, tags, marked)
    if counted.first is None:
        raise MediaError("Nothing of the clip is left, so there is nothing to save.")
    notes = [*made.notes, *(signed([part], certificate) if marked else [])]
    told = told.model_copy(update={"seconds": {"total": time.monotonic() - began}, "notes": notes})
    text = json.dumps(told.model_dump(mode="json"), ensure_ascii=False, indent=1)
    write_poster(output.part(".png"), counted.first, parameters=text if inside else "", marked=marked)
    if marked:
        signed([output.part(".png")], certificate)
    output.write_text(".json", text)
    output.publish()
    height, width = counted.first.shape[:2]
    about = {"prompt": told.prompt, "width": width, "height": height, "frames": counted.count, "fps": _plain(made.fps)}
    if told.seed >= 0:
        about["seed"] = told.seed
    yield Done(
        result=Clip(
            video=str(output.final(suffix)),
            sidecar=str(output.final(".json")),
            poster=str(output.final(".png")),
            request=about | asked.model_dump(mode="json"),
            seconds=dict(told.seconds),
            peak_bytes=0,
            frames=counted.count,
            notes=tuple(notes),
        )
    )


def _plain(fps: Fraction) -> float:
    return int(fps) if fps.denominator == 1 else round(float(fps), 3)


class _Counted:
    """The frames of an edit as they go by: the first of them, and how many there were."""

    def __init__(self, made: Made) -> None:
        self.frames, self.total = made.frames, made.count
        self.first: np.ndarray | None = None
        self.count = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.frames:
            if self.first is None:
                self.first = frame
            self.count += 1
            yield frame


def _written(made: Made, counted: _Counted, part: Path, tags: dict[str, str], marked: bool) -> Iterator[Step]:
    """An mp4 of the frames, and the sound beside them."""
    loud = made.sound is not None and len(made.sound) > 0
    silent = part.with_name(f"{part.name}.silent.mp4") if loud else part
    writer = VideoWriter(silent, fps=made.fps, tags=tags, marked=marked and not loud)
    try:
        for frame in counted:
            writer.write(frame[None])
            if counted.count % _CHUNK == 0:
                yield Step(index=min(counted.count, made.count), total=made.count)
        if counted.first is not None:
            writer.close()
        if loud and counted.first is not None and made.sound is not None:
            _sounding(silent, part, made.sound, tags, marked)
    finally:
        writer.abort()
        if loud:
            silent.unlink(missing_ok=True)


def _sounding(picture: Path, part: Path, heard: np.ndarray, tags: dict[str, str], marked: bool) -> None:
    """An mp4 of a picture as it is coded and of a sound."""
    import av

    try:
        sound.add(picture, part, heard, tags=tags)
    except (OSError, av.FFmpegError) as error:
        raise media_error(error) from error
    if marked:
        append_mark(part)


def _saved(made: Made, counted: _Counted, part: Path, comment: str, marked: bool) -> Iterator[Step]:
    """A moving picture of the frames: they are gathered, then written at once."""
    assert made.save is not None
    gathered = []
    for frame in counted:
        gathered.append(frame)
        if counted.count % _CHUNK == 0:
            yield Step(index=min(counted.count, made.count), total=made.count)
    if gathered:
        made.save(part, iter(gathered), made.fps, comment, marked)


def _clips(asked: EditRequest) -> list[Path]:
    """The clips that an edit is made from."""
    given = (getattr(asked, name, None) for name in ("clip", "then"))
    return [one.path for one in given if one is not None]
