"""Clips in a job list that no worker had to make: real files, written at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.events import Clip, Failed
from engines.media.metadata import Metadata
from engines.media.video import VideoWriter, write_poster
from engines.phantom_wan.spec import PHANTOM_WAN
from studio.jobs.store import Job, JobStore
from studio.service import _new_id


def moving(frames: int, width: int, height: int, *, colour: tuple[int, int, int] = (200, 60, 40)) -> np.ndarray:
    """A block that goes from left to right over grey, uint8 [T,H,W,3]."""
    pixels = np.full((frames, height, width, 3), 90, np.uint8)
    side = height // 3
    for index in range(frames):
        left = round(index * (width - side) / max(1, frames - 1))
        pixels[index, side : 2 * side, left : left + side] = colour
    return pixels


def write_clip(path: Path, pixels: np.ndarray, *, fps: int = 12, comment: str = "") -> Path:
    """An mp4 of these frames, uint8 [T,H,W,3]."""
    writer = VideoWriter(path, fps=fps, tags={"comment": comment}, crf=4)
    writer.write(pixels)
    writer.close()
    return path


def keep(
    store: JobStore, folder: Path, prompt: str, *, colour: tuple[int, int, int] = (200, 60, 40), batch: str = "",
    owner: str = "", state: str = "done", **settings: Any,
) -> Job:  # fmt: skip
    """A job that is over: with its files, or failed."""
    sizes = {"width": 96, "height": 64, "frames": 17, "fps": 12}
    request = PHANTOM_WAN.default_values("starter") | sizes | {"prompt": prompt, "seed": 5} | settings
    (job,) = store.add([Job(engine="phantom-wan", request=request, id=_new_id(), batch=batch, owner=owner)])
    store.move(job.id, "running")
    if state != "done":
        return store.move(job.id, state, failure=Failed(kind="OutOfMemory", message="There was not enough memory."))
    names = {"video": ".mp4", "sidecar": ".json", "poster": ".png"}
    files = {name: folder / f"{job.id}{suffix}" for name, suffix in names.items()}
    pixels = moving(request["frames"], request["width"], request["height"], colour=colour)
    told = Metadata(
        engine="phantom-wan", model="starter", parameters=request, prompt=prompt, seed=request["seed"]
    ).model_dump_json()
    write_clip(files["video"], pixels, fps=request["fps"], comment=told)
    write_poster(files["poster"], pixels[0], parameters=told)
    files["sidecar"].write_text(told, encoding="utf-8")
    paths = {name: str(path) for name, path in files.items()}
    made = Clip(**paths, request=request, seconds={"total": 1.0}, peak_bytes=0, frames=request["frames"])
    return store.move(job.id, "done", result=made)
