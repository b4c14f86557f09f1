"""Quality figures of a finished clip in plain words. Measuring takes seconds and needs no torch."""

from __future__ import annotations

from contextlib import closing
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.errors import MediaError
from engines.media.pictures import cover_frame, open_picture
from engines.media.video import read_frames
from engines.types import EngineSpec
from studio.jobs.store import Job
from studio.kept_pictures import first_frame

if TYPE_CHECKING:
    from engines.media.quality import Quality

PURPOSE = "Taken from the pixels of the clip: a help to compare clips, no verdict on taste."

# Where "good" ends and where "fair" ends.
_LIKENESS_DB = (28.0, 20.0)
_FLICKER = (2.0, 5.0)
_DRIFT = (6.0, 15.0)
_STILL_PERCENT = 0.4

_known: dict[str, Quality] = {}


def shown(spec: EngineSpec, job: Job, *, measure: bool = False) -> str:
    """The figures of a clip as HTML, measured now or known from before; "" if there are none yet."""
    if measure and job.id not in _known:
        try:
            _known[job.id] = _measured(spec, job)
        except MediaError as error:
            return f'<p class="problem" role="alert">{escape(error.message)}</p>'
    if job.id not in _known:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(verdict)}<small>{escape(figure)}</small></td></tr>'
        for name, verdict, figure in words(_known[job.id])
    )
    return f'<table class="facts">{rows}</table>'


def words(found: Quality) -> list[tuple[str, str, str]]:
    """Rows of name, plain words and figures."""
    rows = []
    if found.first_frame_psnr is not None and found.first_frame_ssim is not None:
        close = ("keeps your picture", "resembles your picture", "is not your picture any more")
        verdict = close[_grade(-found.first_frame_psnr, *(-limit for limit in _LIKENESS_DB))]
        figure = f"PSNR {found.first_frame_psnr:.1f} dB, SSIM {found.first_frame_ssim:.2f}"
        rows.append(("First frame", verdict, figure))
    if found.motion is not None and found.flicker is not None:
        still = "stands still" if found.motion < _STILL_PERCENT else "moves a little"
        figure = f"fastest parts {found.motion:.1f} % of the short side in an eighth of a second"
        rows.append(("Motion", "moves clearly" if found.moves else still, figure))
        verdict = ("steady", "slightly restless", "flickers")[_grade(found.flicker, *_FLICKER)]
        rows.append(("Flicker", verdict, f"{found.flicker:.1f} of 255 grey levels from frame to frame"))
    verdict = ("colours stay", "colours drift a little", "colours drift visibly")[_grade(max(found.drift), *_DRIFT)]
    curve = " · ".join(f"{distance:.1f}" for distance in found.drift)
    rows.append(("Colour", verdict, f"CIELAB distance to the start, every {found.chunk_seconds:g} s: {curve}"))
    return rows


def _measured(spec: EngineSpec, job: Job) -> Quality:
    """Measure the clip of a finished job, against its picture where the clip begins with one."""
    from engines.media.quality import measure  # reads scikit-image: not before somebody asks

    request, reference = job.request, first_frame(spec, job.request)
    picture = None
    if reference is not None:
        image = open_picture(Path(reference["path"]), as_published=bool(request.get("published_pictures")))
        position = reference.get("position", 0.5)
        picture = np.asarray(cover_frame(image, width=request["width"], height=request["height"], position=position))
    with closing(read_frames(Path(job.result.video if job.result else ""))) as frames:
        return measure(frames, fps=request["fps"], picture=picture)


def _grade(value: float, good: float, fair: float) -> int:
    """0 up to `good`, 1 up to `fair`, else 2."""
    return int(value > good) + int(value > fair)
