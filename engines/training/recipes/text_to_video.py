"""The base of the Wan starters, from scratch: text to video, and subjects from reference pictures, in one network."""

import dataclasses

from ..recipe import ReferenceMix, Stage
from ..world import WorldConfig
from .flow_task import FlowRecipe, FlowTask

LARGE = WorldConfig(
    width=64,
    frames=17,
    vocabulary="small",
    subject_shares=(1.0, 0.0, 0.0, 0.0),
    two_subjects=0.0,
    floor=0.0,
    photo_background=0.0,
    paraphrase=0.1,
    smallest=0.18,
    largest=0.27,
)
LARGE_SPRITES = dataclasses.replace(LARGE, subject_shares=(0.35, 0.65, 0.0, 0.0))
FULL_SMALL = WorldConfig(
    width=64,
    frames=17,
    subject_shares=(0.5, 0.35, 0.15, 0.0),
    two_subjects=0.08,
    floor=0.2,
    photo_background=0.0,
    paraphrase=0.2,
    smallest=0.19,
)
FULL = dataclasses.replace(FULL_SMALL, width=96, frames=33, two_subjects=0.12, floor=0.25)
ONE = ReferenceMix(none=0.0, one=1.0)
REFERENCES = ReferenceMix(none=0.45, one=0.49, two=0.06)
LAST = ReferenceMix(none=0.3, one=0.57, two=0.13)

RECIPE = FlowRecipe(
    name="text-to-video",
    steps=20_000,
    minutes=95.0,
    decay_share=0.25,
    drop_text=0.1,
    drop_all=0.1,
    sigma_centre=0.5,
    stages=(
        # Shapes and motions first: until they are right, nothing else is worth learning.
        Stage(until=1_200, batch=32, world=LARGE),
        # Then every third batch copies a look.
        Stage(until=3_600, batch=32, world=LARGE),
        Stage(until=3_600, batch=32, world=LARGE),
        Stage(until=3_600, batch=32, world=LARGE_SPRITES, mix=ONE),
        Stage(until=5_600, batch=32, world=FULL_SMALL, mix=REFERENCES),
        Stage(until=10**9, batch=16, world=FULL, mix=LAST),
        Stage(until=10**9, batch=16, world=FULL, mix=LAST),
        Stage(until=10**9, batch=32, world=FULL_SMALL, mix=LAST),
    ),
)


def build(recipe: FlowRecipe) -> FlowTask:
    """The task of this recipe."""
    return FlowTask(recipe)
