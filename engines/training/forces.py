"""Clips that something was pushed in, for the force variant: lists of videos whose objects have a `force`.

The names are those of the Force-Prompting tables: {"angle", "force", "coordx", "coordy"} for a push at a point, with
coordinates in shares from the lower left, or {"wind_angle", "wind_speed"}. Angles are degrees, 90 is up. How strong
`force` and `wind_speed` are is told by the smallest and the largest of the whole list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from engines.phantom_physics.force import PointForce, Wind, felt_by

from .video_clips import VideoDataset
from .video_list import Bucket, Samples

KINDS = ("point", "wind")
STRENGTHS = {"point": "force", "wind": "wind_speed"}
FIELDS = 5  # of a force as numbers: which of KINDS, x, y, angle, strength


def kind_of(sample: Mapping[str, Any]) -> str:
    """What kind of force a sample tells.

    Raises:
        ValueError: it tells none, or one that lacks something.
    """
    force = sample.get("force")
    if isinstance(force, Mapping):
        if {"angle", "force", "coordx", "coordy"} <= force.keys():
            return "point"
        if {"wind_angle", "wind_speed"} <= force.keys():
            return "wind"
    raise ValueError("it has no force with angle, force, coordx and coordy, or wind_angle and wind_speed")


def as_numbers(sample: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]]) -> list[float]:
    """The force of a sample as FIELDS numbers; `ranges` are the least and the most of each kind in the list."""
    kind, force = kind_of(sample), sample["force"]
    least, most = ranges[kind]
    strength = (force[STRENGTHS[kind]] - least) / (most - least) if most > least else 0.5
    place = (force["coordx"], force["coordy"]) if kind == "point" else (0.0, 0.0)
    return [KINDS.index(kind), *place, force["angle" if kind == "point" else "wind_angle"] % 360, strength]


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
    """VideoDataset's batches with `force` [B,FIELDS]; every sample of the list must have one."""

    def _open(self) -> Samples:
        fresh = self._store is None
        store = super()._open()
        if fresh:
            told: dict[str, list[float]] = {}
            for index in range(len(store)):
                kind = kind_of(store[index])
                told.setdefault(kind, []).append(float(store[index]["force"][STRENGTHS[kind]]))
            self.ranges = {kind: (min(values), max(values)) for kind, values in told.items()}
        return store

    @property
    def kinds(self) -> list[str]:
        """The kinds of force that there are in the list."""
        self._open()
        return [kind for kind in KINDS if kind in self.ranges]

    def _read(self, sample: dict[str, Any], bucket: Bucket, rng: np.random.Generator) -> tuple[Any, ...]:
        # The force acts from a clip's first frame on, so the clip is the video's own beginning.
        begin = dict(sample, num_frames=int(bucket.indices(sample)[bucket.frames - 1]) - bucket.indices(sample)[0] + 1)
        return *super()._read(begin, bucket, rng), as_numbers(sample, self.ranges)

    def _others(self, *read: Sequence[Any]) -> dict[str, torch.Tensor]:
        return {"force": torch.tensor(read[0], dtype=torch.float32)}
