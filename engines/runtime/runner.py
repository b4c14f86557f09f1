"""One generation from request to published clip, as one generator of typed events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from engines.errors import NotFinite, OutOfMemory, StudioError
from engines.events import Cancelled, Clip, Done, Note, Playback, Preview, Stage, Step
from engines.media import metadata
from engines.media.background_writer import BackgroundWriter
from engines.media.credentials import signed
from engines.media.output import Output
from engines.media.video import VideoWriter, playback_bytes, preview_bytes, reduced, write_poster
from engines.memory import devices
from engines.registry import implementation
from engines.request import Request, seeds
from engines.runtime.time_left import Pace, TimeLeft
from engines.types import Context, EngineSpec, Frames, LatentStep, Measured

_PREVIEW_EVERY_S = 0.5
_PREVIEW_SHARE = 0.02
_BLANK = "Every frame is one plain colour: a file of the model may be damaged, or not meant for this model."


def run(
    spec: EngineSpec,
    request: Request,
    context: Context,
    *,
    output_dir: Path,
    job_id: str,
    pace: Pace | None = None,
    engine: Any = None,
    keep: Callable[[], bool] = lambda: False,
    notes: Sequence[str] = (),
    inside: bool = True,
    certificate: Path | None = None,
) -> Generator[Any, None, None]:
    """Make the clip of `request` and yield Stage, Step, Preview, Note and, last, Done.

    Closing the generator cancels the run: nothing of it stays on the disk. Once `keep` is true, the run ends early and
    keeps the frames made so far as a clip that its notes call unfinished, or ends with Cancelled if there are none.

    Args:
        output_dir: folder of the clip, its poster and its sidecar, all called `job_id`.
        pace: what earlier runs taught about time; shared by the runs of one process.
        engine: the engine to run; by default the one behind `spec`.
        keep: whether to stop and keep what there is; asked after everything the engine yields.
        notes: what is to be known of the clip from the beginning.
        inside: whether clip and poster carry the settings that made them; the sidecar does in any case.
        certificate: signs the clip and its poster; where it cannot, a note says why.

    Raises:
        StudioError: with a sentence for people; the cause of anything unforeseen is chained.
    """
    request = request.model_copy(update={"seed": seeds(request.seed)[0]})
    with Output(Path(output_dir), job_id) as output:
        try:
            yield from _Run(spec, request, context, output, pace or Pace(), inside, certificate).events(
                engine, keep, notes
            )
        except NotFinite as error:
            files = context.paths(error.role) if error.role in {part.role for part in context.model.weights} else ()
            raise NotFinite(error.role, when=error.when, file=files[0].name if files else "") from error
        except StudioError:
            raise
        except Exception as error:
            raise _translated(error, request) from error


def pace_key(spec: EngineSpec, request: Request, device: Any) -> tuple[str, int]:
    """What the time of a clip's steps belongs to: engine, model and device; and its pixels."""
    return f"{spec.name}/{request.model}/{device}", request.width * request.height * request.frames


class _Run:
    """The state of one run: what was timed, noted and written so far."""

    def __init__(
        self,
        spec: EngineSpec,
        request: Request,
        context: Context,
        output: Output,
        pace: Pace,
        inside: bool,
        certificate: Path | None,
    ) -> None:
        self.spec, self.request, self.context, self.output = spec, request, context, output
        self.inside, self.certificate = inside, certificate
        key, pixels = pace_key(spec, request, context.device)
        self.time_left = TimeLeft(
            pace,
            key=key,
            pixels=pixels,
            frames=request.frames,
        )
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self.figures: dict[str, float] = {}
        self.writer: BackgroundWriter | None = None
        self.beside: Mapping[str, Callable[[], bytes]] = {}
        self.stepping = False
        self.small: list[np.ndarray] = []
        self.length = 0
        self.poster: np.ndarray | None = None
        self.blank = True  # until a frame has more than one colour
        self._stage = ""
        self._stage_began = self._began = time.monotonic()
        self._preview_due = 0.0

    def events(self, engine: Any, keep: Callable[[], bool], notes: Sequence[str]) -> Iterator[Any]:
        files = {weights.role: self.context.paths(weights.role) for weights in self.context.model.weights}
        self._switch("Getting ready")
        yield Stage(name="Getting ready")
        for note in notes:
            yield self._noted(note)
        engine = engine or implementation(self.spec)
        meter = devices.PeakMeter(self.context.device)
        try:
            with closing(engine.generate(self.request, self.context)) as made:
                for item in made:
                    meter.sample()
                    yield from self._told()
                    yield from self._event(item, files)
                    if keep():
                        break
            self._switch("")
            if keep() and self.writer is None:
                yield Cancelled()
                return
            if self.writer is not None and self.writer.frame_count < self.request.frames:
                yield self._noted(f"Stopped after {self.writer.frame_count} of {self.request.frames} frames.")
            if self.writer is not None and self.blank:
                yield self._noted(_BLANK)
            yield Done(result=self._finish(files, meter.peak_bytes()))
        finally:
            if self.writer is not None:
                self.writer.abort()

    def _event(self, item: Any, files: dict[str, tuple[Path, ...]]) -> Iterator[Any]:
        match item:
            case Stage():
                self._switch(item.name)
                self.time_left.stage()
                self.stepping = False
                yield item
            case Note():
                yield self._noted(item.message)
            case Measured():
                self.figures[item.name] = item.value
            case LatentStep():
                self.stepping = True
                yield Step(index=item.index, total=item.total, eta_s=self.time_left.step(item.index, item.total))
                now = time.monotonic()
                if item.preview is not None and now >= self._preview_due:
                    seen = item.preview()  # comes once the device has done the step: that wait is no cost of a preview
                    began = time.monotonic()
                    image = preview_bytes(seen)
                    ended = time.monotonic()
                    self._preview_due = ended + max(_PREVIEW_EVERY_S, (ended - began) / _PREVIEW_SHARE)
                    yield Preview(image=image)
            case Frames() if not len(item.pixels):  # more is decoded, of frames that are not whole yet
                yield Step(index=0, total=self.request.frames)
            case Frames():
                if self.writer is None:
                    self._open(item.pixels[0], files)
                self.writer.write(item.pixels)
                self.blank = self.blank and _single_coloured(item.pixels)
                self.beside = item.beside
                if self.spec.keeps_parts:
                    self.small += reduced(item.pixels)
                    yield Playback(image=playback_bytes(self.small, fps=self.request.fps))
                if self.stepping:  # decoded between steps, which go on counting
                    return
                written = self.writer.frame_count
                yield Step(index=written, total=self.request.frames, eta_s=self.time_left.frames(written))
            case _:
                raise TypeError(f"{self.spec.name} yielded {type(item).__name__}")

    def _noted(self, message: str) -> Note:
        self.notes.append(message)
        return Note(message=message)

    def _told(self) -> Iterator[Note]:
        """What the networks used since the last time want people to know."""
        for message in self.context.notes:
            if message not in self.notes:
                yield self._noted(message)

    def _open(self, first: np.ndarray, files: dict[str, tuple[Path, ...]]) -> None:
        self.poster = first
        writer = VideoWriter(
            self.output.part(".mp4"),
            fps=self.request.fps,
            tags=metadata.tags(self._described(files), inside=self.inside),
        )
        self.writer = BackgroundWriter(writer)

    def _finish(self, files: dict[str, tuple[Path, ...]], peak_bytes: int) -> Clip:
        """Close the clip, write poster and sidecar, and give all three their names."""
        if self.writer is None or self.poster is None:
            raise TypeError(f"{self.spec.name} made no frames")
        began = time.monotonic()
        self.writer.close()
        self.length, self.writer = self.writer.frame_count, None
        self.notes += signed([self.output.part(".mp4")], self.certificate)
        self.seconds["Saving"] = time.monotonic() - began
        self.seconds["total"] = time.monotonic() - self._began
        described = self._described(files).model_copy(update={"peak_bytes": peak_bytes, "figures": self.figures})
        text = json.dumps(described.model_dump(mode="json"), ensure_ascii=False, indent=1)
        write_poster(self.output.part(".png"), self.poster, parameters=text if self.inside else "")
        signed([self.output.part(".png")], self.certificate)
        self.output.write_text(".json", text)
        for suffix, content in self.beside.items():
            self.output.write_bytes(suffix, content())
        self.output.publish()
        return Clip(
            video=str(self.output.final(".mp4")),
            sidecar=str(self.output.final(".json")),
            poster=str(self.output.final(".png")),
            request=self.request.model_dump(mode="json"),
            seconds=self.seconds,
            peak_bytes=peak_bytes,
            frames=self.length,
            notes=tuple(self.notes),
            beside=tuple(str(self.output.final(suffix)) for suffix in self.beside),
            figures=self.figures,
            device=described.device,
        )

    def _described(self, files: dict[str, tuple[Path, ...]]) -> metadata.Metadata:
        described = metadata.describe(
            self.spec.name,
            self.request,
            model=self.context.model,
            files=files,
            device=devices.title(self.context.device),
            precisions=self.context.precisions,
            computed=self.context.computed,
        )
        return described.model_copy(update={"seconds": dict(self.seconds), "notes": list(self.notes)})

    def _switch(self, name: str) -> None:
        now = time.monotonic()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._stage_began
        self._stage, self._stage_began = name, now


def _single_coloured(frames: np.ndarray) -> bool:
    """Whether no frame of uint8 [T,H,W,3] shows anything."""
    return bool((np.ptp(frames, axis=(1, 2)) <= 1).all())


def _translated(error: Exception, request: Request) -> StudioError:
    """An unexpected failure as one sentence."""
    if devices.is_out_of_memory(error):
        return OutOfMemory(
            f"There was not enough memory for {request.frames} frames of {request.width}x{request.height}.",
            hint="Choose fewer frames or a smaller size.",
        )
    return devices.device_error(error) or StudioError(
        "Something went wrong inside the engine.", hint="Another seed or size may work.", unforeseen=True
    )
