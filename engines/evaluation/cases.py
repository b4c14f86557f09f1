"""Fixed held-out cases: what to ask a starter for, with the truth to compare its clip with."""

import dataclasses

import numpy as np

from engines.training.recipe import HELD_OUT
from engines.training.world import Clip, WorldConfig, make_clip
from engines.training.world.sprites import Subject

TEXT_SEED, ONE_SEED, TWO_SEED, VAE_SEED = HELD_OUT[:4]

TEXT_WORLD = WorldConfig(
    subject_shares=(1.0, 0.0, 0.0, 0.0), two_subjects=0.0, photo_background=0.0, paraphrase=0.0, held_out=True
)
ONE_WORLD = WorldConfig(
    subject_shares=(0.0, 0.75, 0.25, 0.0),
    two_subjects=0.0,
    photo_background=0.0,
    paraphrase=0.0,
    references=True,
    reference_white=1.0,
    held_out=True,
)
TWO_WORLD = dataclasses.replace(ONE_WORLD, exact_count=2, subject_shares=(0.0, 1.0, 0.0, 0.0))
PHOTO_WORLD = WorldConfig(frames=17, empty_photo=1.0, camera=0.7, held_out=True)
VAE_WORLD = WorldConfig(
    frames=17, subject_shares=(0.5, 0.35, 0.15, 0.0), two_subjects=0.4, photo_background=0.0, held_out=True
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A request (the clip's caption and references) and eight candidates for each subject, the right one first."""

    clip: Clip
    candidates: tuple[tuple[Subject, ...], ...]


def cases(seed: int, count: int, world: WorldConfig, *, choices: int = 8) -> list[Case]:
    """The first `count` cases of a seed. Candidates are other held-out subjects of the same kind."""
    clips = [make_clip((seed, index), world) for index in range(count)]
    pool: dict[str, list[Subject]] = {}
    for index in range(max(160, 4 * count)):
        subject = make_clip((seed, 7, index), dataclasses.replace(world, frames=1, references=False)).tracks[0].subject
        pool.setdefault(subject.kind, []).append(subject)
    rng = np.random.default_rng(seed)
    result = []
    for clip in clips:
        candidates = []
        for track in clip.tracks:
            others = [s for s in pool[track.subject.kind] if not np.array_equal(s.picture, track.subject.picture)]
            picks = rng.choice(len(others), choices - 1, replace=False)
            candidates.append((track.subject, *(others[pick] for pick in picks)))
        result.append(Case(clip=clip, candidates=tuple(candidates)))
    return result
