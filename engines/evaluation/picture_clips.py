"""Image-to-video starters against real clips that begin with the same pictures: fidelity, motion, drift of colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from skimage.color import deltaE_ciede2000

from engines.media.quality import Quality, measure
from engines.training.recipe import HELD_OUT
from engines.training.world import Clip, WorldConfig, make_clip

from . import scores
from .figures import Figure, share
from .scores import Pair, mean, scene_colour

OBJECT_SEED, PHOTO_SEED = HELD_OUT[4:6]
CHUNKS = 4
FPS = 12

# One held-out subject on a flat background: what moves, and how, can be read from the pixels.
OBJECT_WORLD = WorldConfig(
    subject_shares=(0.3, 0.4, 0.3, 0.0),
    two_subjects=0.0,
    photo_background=0.0,
    paraphrase=0.0,
    held_out=True,
)
PHOTO_WORLD = WorldConfig(empty_photo=1.0, camera=1.0, paraphrase=0.0, held_out=True)


def held_out(count: int) -> tuple[list[Clip], list[Clip]]:
    """`count` clips with one subject, half as many photographs under a moving camera."""
    objects = [make_clip((OBJECT_SEED, index), OBJECT_WORLD) for index in range(count)]
    photos = [make_clip((PHOTO_SEED, index), PHOTO_WORLD) for index in range(max(1, count // 2))]
    return objects, photos


def colour_drift(video: np.ndarray, *, chunks: int = CHUNKS) -> list[float]:
    """CIEDE2000 between the colour of the first chunk and of each chunk, uint8 [T,H,W,3] in equal chunks."""
    colours = [scene_colour(part) for part in np.array_split(video, chunks)]
    return [float(deltaE_ciede2000(colours[0], colour)) for colour in colours]


def measured(objects: list[Pair], photos: list[Pair], round_trips: list[float]) -> tuple[list[Figure], dict[str, Any]]:
    """Figures with the targets of the FlashI2V starter, and the curves over temporal chunks.

    Args:
        round_trips: PSNR in dB of each picture through the autoencoder alone, objects first: the most a first frame
            can reach.
    """
    pairs = [*objects, *photos]
    made = [measure(pair.made, fps=FPS, picture=pair.real.frames[0]) for pair in pairs]
    real = [measure(pair.real.frames, fps=FPS) for pair in pairs]
    fidelity = [quality.first_frame_psnr for quality in made]
    drift = np.array([colour_drift(pair.made) for pair in objects])
    gap = np.array([[chunk_distance(pair, index) for index in range(CHUNKS)] for pair in pairs])
    dynamic = 100 * _motion(made) / max(_motion(real), 1e-6)
    figures = [
        Figure(name="first frame below the VAE's own", value=mean(round_trips) - mean(fidelity), unit="dB",
               target=2.0, lower=True),
        Figure(name="first frame PSNR", value=mean(fidelity), unit="dB"),
        Figure(name="VAE's round trip of the pictures", value=mean(round_trips), unit="dB"),
        Figure(name="first frame SSIM", value=mean([quality.first_frame_ssim for quality in made]), unit=""),
        share("motion right", [scores.motion_right(pair.made, pair.real) for pair in objects], target=85.0),
        share("motion read right in the real clips", [scores.motion_right(p.real.frames, p.real) for p in objects]),
        Figure(name="dynamic degree, share of the real clips'", value=dynamic),
        Figure(name="dynamic degree, distance from theirs", value=abs(dynamic - 100), target=15.0, lower=True),
        Figure(name="drift of colour, last chunk", value=float(drift[:, -1].mean()), unit="dE", target=3.0, lower=True),
        Figure(name="drift of colour in the real clips",
               value=mean([colour_drift(pair.real.frames)[-1] for pair in objects]), unit="dE"),
        Figure(name="flicker", value=mean([quality.flicker for quality in made]), unit=""),
        Figure(name="flicker of the real clips", value=mean([quality.flicker for quality in real]), unit=""),
    ]  # fmt: skip
    curves = {
        "chunks": CHUNKS,
        "colour_drift": [round(float(value), 3) for value in drift.mean(0)],
        "distance_from_real": [round(float(value), 3) for value in gap.mean(0)],
    }
    return figures, curves


def chunk_distance(pair: Pair, index: int) -> float:
    """Root mean square difference, in grey levels, of chunk `index` of a made clip and of the real one."""
    made, real = (np.array_split(video, CHUNKS)[index] for video in (pair.made, pair.real.frames))
    return float(np.sqrt(np.mean((made.astype(np.float32) - real) ** 2)))


def round_trip_psnr(vae: Any, picture: np.ndarray) -> float:
    """PSNR in dB of a picture uint8 [H,W,3] encoded alone and decoded."""
    from .starter import round_trip

    return scores.decibels(picture[None], round_trip(vae, picture[None]))


def _motion(qualities: list[Quality]) -> float:
    return mean([quality.motion for quality in qualities])
