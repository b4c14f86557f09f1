"""What of OpenS2V-Eval can be computed without its downloads: its motion figure, its total, and a likeness of our own.

Source: PKU-YuanGroup/OpenS2V-Nexus eval/get_motionscore.py (benchmark version 1.0). Aesthetics, faces, text relevance,
subject consistency and naturalness need weights or services that this project does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from engines.media.pictures import open_picture
from engines.media.video import read_frames

if TYPE_CHECKING:
    from transformers import CLIPVisionModel

FLOW_WIDTH = 16
SAMPLED_FRAMES = 32
# Not published: they were fitted to eleven published totals, which they reproduce to 0.006.
FITTED_WEIGHTS = {
    "Aesthetic": 0.16,
    "MotionSmoothness": 0.06,
    "MotionAmplitude": 0.02,
    "FaceSim": 0.20,
    "GmeScore": 0.12,
    "NexusScore": 0.20,
    "NaturalScore": 0.24,
}


@dataclass(frozen=True)
class Scores:
    """Figures of one clip.

    Attributes:
        motion_fb: OpenS2V-Eval's own: how far everything drifts from frame to frame in pixels, along either axis.
            Opposite motions cancel.
        likeness: this project's own, -1 to 1: cosine of CLIP's embeddings of the frames and of the nearest reference
            picture; None without an image encoder or pictures.
    """

    motion_fb: float
    likeness: float | None = None


def motion_fb(frames: Iterable[np.ndarray]) -> float:
    """The motion figure of a clip, uint8 [H,W,3] RGB frames; 0 for a single frame."""
    # Red and blue change places before grey is taken, as in the source.
    greys = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGR2GRAY) for frame in frames]
    flows = [
        cv2.calcOpticalFlowFarneback(
            before, after, None, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
        )
        for before, after in pairwise(greys)
    ]
    if not flows:
        return 0.0
    height, width = greys[0].shape
    size = (FLOW_WIDTH, int(height * (FLOW_WIDTH / width)))
    return abs(float(np.mean([cv2.resize(flow, size, interpolation=cv2.INTER_AREA) for flow in flows])))


def likeness(encoder: CLIPVisionModel, frames: np.ndarray, pictures: Sequence[np.ndarray]) -> float:
    """How much a clip [T,H,W,3] looks like its reference pictures [H,W,3]: mean over 32 of its frames."""
    import torch

    from engines.bindweave.conditions import clip_pixels

    size = encoder.config.image_size

    @torch.no_grad()
    def embedded(images: Iterable[np.ndarray]) -> torch.Tensor:
        values = torch.cat([clip_pixels(np.ascontiguousarray(image), size=size) for image in images])
        states = encoder(pixel_values=values.to(encoder.device, encoder.dtype)).pooler_output.float()
        return torch.nn.functional.normalize(states, dim=-1)

    chosen = np.unique(np.linspace(0, len(frames) - 1, SAMPLED_FRAMES).astype(int))
    return float((embedded(frames[chosen]) @ embedded(pictures).T).max(dim=1).values.mean())


def total(scores: Mapping[str, float]) -> float:
    """The benchmark's total of all its seven scores in percent, by the fitted weights; raises KeyError if one lacks."""
    return sum(weight * scores[name] for name, weight in FITTED_WEIGHTS.items())


def score_folder(
    clips: Path, pictures: Path | None = None, encoder: CLIPVisionModel | None = None
) -> dict[str, Scores]:
    """Figures of every clip in a folder, by name.

    Args:
        pictures: folder of the reference pictures; those of "fox.mp4" have names that begin with "fox_".
        encoder: of CLIP; needed for the likeness.

    Raises:
        ValueError: there is no clip in the folder.
        MediaError: a clip or a picture cannot be read.
    """
    paths = sorted(clips.glob("*.mp4"))
    if not paths:
        raise ValueError(f"There is no clip in {clips.name}.")
    found = {}
    for path in paths:
        frames = np.stack(list(read_frames(path)))
        given = sorted(pictures.glob(f"{path.stem}_*")) if pictures and encoder is not None else []
        seen = [np.asarray(open_picture(one, as_published=False)) for one in given]
        found[path.stem] = Scores(
            motion_fb(frames), likeness(encoder, frames, seen) if encoder is not None and seen else None
        )
    return found
