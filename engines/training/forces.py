"""Clips that something was pushed in, for the force variant: lists of videos whose objects have a `force`.

The names are those of the Force-Prompting tables: {"angle", "force", "coordx", "coordy", "width", "height"} for a push
at a point, in pixels from the lower left of a frame of this size, or {"wind_angle", "wind_speed"}. Angles are degrees,
90 is up. How strong `force` and `wind_speed` are is told by the smallest and the largest of the whole list.
Source: controlnet_datasets.py of the Force-Prompting repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.media.framing import crop_to_cover
from engines.phantom_physics.force import PointForce, Wind, felt_by

from .video_clips import VideoDataset
from .video_list import Bucket

NAMES = {
    "point": ("force", "angle", "coordx", "coordy", "width", "height"),
    "wind": ("wind_speed", "wind_angle"),
}  # by kind; how strong, which way, and where it is
KINDS = tuple(NAMES)
FIELDS = 5  # of a force as numbers: which of KINDS, x, y, angle, strength


def kind_of(sample: Mapping[str, Any]) -> str:
    """What kind of force a sample tells.

    Raises:
        ValueError: it tells none, or one that lacks something.
    """
    force = sample.get("force")
    if isinstance(force, Mapping):
        for kind, names in NAMES.items():
            if all(isinstance(force.get(name), int | float) for name in names):
                return kind
    wanted = ", or ".join(", ".join(names) for names in NAMES.values())
    raise ValueError(f"{Path(sample['path']).name} has no force in the list: numbers for {wanted}.")


def place_in(bucket: Bucket, force: Mapping[str, float]) -> tuple[float, float]:
    """Where a push is in what a bucket cuts out of its frame, as shares from the lower left.

    Raises:
        ValueError: it is outside.
    """
    crop = crop_to_cover((int(force["width"]), int(force["height"])), width=bucket.width, height=bucket.height)
    x = (force["coordx"] / force["width"] * crop.width - crop.left) / bucket.width
    y = 1 - ((1 - force["coordy"] / force["height"]) * crop.height - crop.top) / bucket.height
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError("its force is outside of what is cut out of its frames")
    return x, y


def as_numbers(sample: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]], bucket: Bucket) -> list[float]:
    """The force of a sample as FIELDS numbers; `ranges` are the least and the most of each kind in the list."""
    kind, force = kind_of(sample), sample["force"]
    strong, angle, *_ = NAMES[kind]
    least, most = ranges[kind]
    strength = (force[strong] - least) / (most - least) if most > least else 0.5
    x, y = place_in(bucket, force) if kind == "point" else (0.0, 0.0)
    return [KINDS.index(kind), x, y, force[angle] % 360, strength]


def controls(
    forces: torch.Tensor, *, width: int, height: int, frames: int, latent: tuple[int, int], physics_side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forces [B,FIELDS] -> the controls of both branches, [B,3,n+1,h,w] and [B,3,2n+1,side,side], where they are."""
    found = []
    for kind, x, y, angle, strength in forces.tolist():
        force = PointForce(x, y, angle, strength) if KINDS[int(kind)] == "point" else Wind(angle, strength)
        size = {"width": width, "height": height, "frames": frames}
        found.append(felt_by(force, **size, latent=latent, physics_side=physics_side))
    seen, felt = zip(*found, strict=True)
    return torch.stack(seen).to(forces.device), torch.stack(felt).to(forces.device)


class PushedVideos(VideoDataset):
    """VideoDataset's batches with `force` [B,FIELDS].

    Attributes:
        ranges: the least and the most force of each kind that there is in the list.

    Raises:
        ValueError: a sample of the list has none.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        store, told = self._open(), dict[str, list[float]]()
        for index in range(len(store)):
            sample = store[index]
            kind = kind_of(sample)
            told.setdefault(kind, []).append(float(sample["force"][NAMES[kind][0]]))
        self.ranges = {kind: (min(told[kind]), max(told[kind])) for kind in KINDS if kind in told}
        self.close()  # who reads opens it anew

    def _read(self, sample: dict[str, Any], bucket: Bucket, rng: np.random.Generator) -> tuple[Any, ...]:
        # The force acts from a clip's first frame on, so the clip is the video's own beginning.
        indices = bucket.indices(sample)
        begin = dict(sample, num_frames=int(indices[bucket.frames - 1] - indices[0]) + 1)
        return *super()._read(begin, bucket, rng), as_numbers(sample, self.ranges, bucket)

    def _others(self, *read: tuple[Any, ...]) -> dict[str, torch.Tensor]:
        return {"force": torch.tensor(read[0], dtype=torch.float32)}
