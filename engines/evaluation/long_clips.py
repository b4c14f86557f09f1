"""Long clips of one subject: does it do what was asked, and is it at the end who it was at the beginning?"""

from __future__ import annotations

import dataclasses

import numpy as np
from skimage.color import deltaE_ciede2000

from engines.training.recipe import HELD_OUT
from engines.training.world import Clip, make_clip

from . import cases, scores, subjects
from .figures import Figure, share
from .scores import Pair, mean, scene_colour

TEXT_SEED, PICTURE_SEED = HELD_OUT[6:]
FPS = 12

TEXT_WORLD = dataclasses.replace(cases.TEXT_WORLD, frames=49)
PICTURE_WORLD = dataclasses.replace(TEXT_WORLD, subject_shares=(0.6, 0.4, 0.0, 0.0))


def held_out(count: int, *, width: int, height: int) -> tuple[list[Clip], list[Clip]]:
    """`count` clips to be made from their captions, half as many to be made from their first frames as well."""
    words, pictures = (dataclasses.replace(world, width=width, height=height) for world in (TEXT_WORLD, PICTURE_WORLD))
    written = [make_clip((TEXT_SEED, index), words) for index in range(count)]
    pictured = [make_clip((PICTURE_SEED, index), pictures) for index in range(max(1, count // 2))]
    return written, pictured


def drift(video: np.ndarray) -> float:
    """CIEDE2000 between the colours of the first and the last half second."""
    edge = FPS // 2
    first, last = (scene_colour(part) for part in (video[:edge], video[-edge:]))
    return float(deltaE_ciede2000(first, last))


def keeps_identity(video: np.ndarray) -> bool:
    """Whether the subject reads as the same colour and shape in the first and in the last second."""
    masks = subjects.split_subjects(subjects.subject_masks(video), 1)[0]
    ends = [
        (subjects.colour_name(video[part], masks[part]), subjects.shape_name(masks[part]))
        for part in (slice(None, FPS), slice(-FPS, None))
    ]
    return None not in ends[0] and ends[0] == ends[1]


def measured(written: list[Pair], pictured: list[Pair]) -> list[Figure]:
    """Figures with the targets of the Pyramid Flow starter, from captions alone and from first pictures as well."""
    pairs = [*written, *pictured]
    hits = [scores.text_hits(scores.look(pair.made), pair.real) for pair in written]
    fidelity = [scores.decibels(pair.real.frames[:1], pair.made[:1]) for pair in pictured]
    return [
        *(share(f"{word} right, from text", [hit[word] for hit in hits]) for word in ("colour", "background", "shape")),
        share("motion right, from text", [hit["motion"] for hit in hits], target=80.0),
        share("motion right, from a picture", [scores.motion_right(p.made, p.real) for p in pictured], target=80.0),
        share("motion read right in the real clips", [scores.motion_right(p.real.frames, p.real) for p in pairs]),
        Figure(
            name="drift, first to last half second",
            value=mean([drift(pair.made) for pair in pairs]),
            unit="dE",
            target=4.0,
            lower=True,
        ),
        Figure(name="drift of the real clips", value=mean([drift(pair.real.frames) for pair in pairs]), unit="dE"),
        share("same subject in first and last second", [keeps_identity(pair.made) for pair in pairs], target=80.0),
        share("the same read in the real clips", [keeps_identity(pair.real.frames) for pair in pairs]),
        # The picture's own latents are the first unit, so this is the autoencoder's round trip.
        Figure(name="first frame PSNR, from a picture", value=mean(fidelity), unit="dB"),
    ]
