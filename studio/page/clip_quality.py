"""Quality figures of a finished clip in plain words. Measuring takes seconds and needs no torch."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.inputs import Reference, media_fields
from engines.media.framing import cover_frame, cut_out
from engines.media.pictures import open_picture
from engines.media.video import read_frames
from engines.types import EngineSpec
from studio.jobs.store import Job
from studio.page.markup import Row

if TYPE_CHECKING:
    from engines.media.quality import Quality

PURPOSE = "Taken from the pixels of the clip: a help to compare clips, no verdict on taste."

# Where "good" ends and where "fair" ends.
_LIKENESS_DB = (28.0, 20.0)
_FLICKER = (2.0, 5.0)
_DRIFT = (6.0, 15.0)
_STILL_PERCENT = 0.4

_MOST_KNOWN = 200


class Figures:
    """The figures of the clips measured last, of one studio."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Quality] = OrderedDict()

    def known(self, job: Job) -> list[Row]:
        """The figures of a clip in words; empty if it was not measured yet."""
        return rows(self._known[job.id]) if job.id in self._known else []

    def measure(self, spec: EngineSpec | None, job: Job) -> list[Row]:
        """The same, measured now where they are not known; `spec` is None where the clip's engine is gone.

        Raises:
            MediaError: the clip or its picture cannot be read.
        """
        if job.id not in self._known:
            self._known[job.id] = _measured(spec, job)
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(job.id)
        return self.known(job)

    def forget(self, job_id: str) -> None:
        """The clip is gone."""
        self._known.pop(job_id, None)


def rows(found: Quality) -> list[Row]:
    """Figures with plain words for them."""
    rows = []
    if found.first_frame_psnr is not None and found.first_frame_ssim is not None:
        close = ("keeps your picture", "resembles your picture", "is not your picture any more")
        verdict = close[_grade(-found.first_frame_psnr, *(-limit for limit in _LIKENESS_DB))]
        figure = f"PSNR {found.first_frame_psnr:.1f} dB, SSIM {found.first_frame_ssim:.2f}"
        rows.append(Row("First frame", verdict, figure))
    if found.motion is not None and found.flicker is not None:
        still = "stands still" if found.motion < _STILL_PERCENT else "moves a little"
        figure = f"fastest parts {found.motion:.1f} % of the short side in an eighth of a second"
        rows.append(Row("Motion", "moves clearly" if found.moves else still, figure))
        verdict = ("steady", "slightly restless", "flickers")[_grade(found.flicker, *_FLICKER)]
        rows.append(Row("Flicker", verdict, f"{found.flicker:.1f} of 255 grey levels from frame to frame"))
    verdict = ("colours stay", "colours drift a little", "colours drift visibly")[_grade(max(found.drift), *_DRIFT)]
    curve = " · ".join(f"{distance:.1f}" for distance in found.drift)
    rows.append(Row("Colour", verdict, f"CIELAB distance to the start, every {found.chunk_seconds:g} s: {curve}"))
    return rows


def _measured(spec: EngineSpec | None, job: Job) -> Quality:
    """Measure the clip of a finished job, against its picture where the clip begins with one."""
    from engines.media.quality import measure  # reads scikit-image: not before somebody asks

    request, picture = job.request, None
    field = spec.field_of("first frame") if spec is not None else None
    if spec is not None and field is not None and request.get(field):
        reference = Reference.model_validate(request[field])
        switch = media_fields(spec.request_type)[field].as_published
        image = open_picture(reference.path, as_published=bool(switch and request.get(switch)))
        if not reference.keep_background:
            image = cut_out(image).image
        size = {"width": request["width"], "height": request["height"]}
        picture = np.asarray(cover_frame(image, **size, position=reference.position))
    with closing(read_frames(Path(job.result.video if job.result else ""))) as frames:
        return measure(frames, fps=request["fps"], picture=picture)


def _grade(value: float, good: float, fair: float) -> int:
    """0 up to `good`, 1 up to `fair`, else 2."""
    return int(value > good) + int(value > fair)
