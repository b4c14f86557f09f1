"""The base of the Wan starters, from scratch: text to video, and subjects from reference pictures, in one network."""

import dataclasses

from ..recipe import ReferenceMix, Stage
from ..world import WorldConfig
from .flow_task import FlowRecipe, FlowTask

LARGE = WorldConfig(
    width=64,
    height=48,
    frames=17,
    vocabulary="small",
    subject_shares=(1.0, 0.0, 0.0, 0.0),
    two_subjects=0.0,
    floor=0.0,
    photo_background=0.0,
    paraphrase=0.1,
)
LARGE_SPRITES = dataclasses.replace(LARGE, subject_shares=(0.3, 0.7, 0.0, 0.0))
FULL_SMALL = dataclasses.replace(
    LARGE, vocabulary="full", subject_shares=(0.45, 0.45, 0.1, 0.0), two_subjects=0.06, floor=0.3, paraphrase=0.2
)
FULL = dataclasses.replace(FULL_SMALL, width=96, height=64, frames=33, two_subjects=0.1)
ONE = ReferenceMix(none=0.0, one=1.0)
REFERENCES = ReferenceMix(none=0.45, one=0.5, two=0.05)
LAST = ReferenceMix(none=0.35, one=0.55, two=0.1)

RECIPE = FlowRecipe(
    name="text-to-video",
    steps=60_000,
    decay_share=0.25,
    drop_text=0.1,
    drop_all=0.1,
    sigma_centre=0.5,
    start="assets/starter",
    stages=(
        # Shapes and motions first: until they are right, nothing else is worth learning.
        Stage(until=1_500, batch=16, world=LARGE),
        # Then every third batch copies a look.
        Stage(until=2_200, batch=16, world=LARGE),
        Stage(until=2_200, batch=16, world=LARGE),
        Stage(until=2_200, batch=16, world=LARGE_SPRITES, mix=ONE),
        Stage(until=3_600, batch=16, world=FULL_SMALL, mix=REFERENCES),
        Stage(until=10**9, batch=8, world=FULL, mix=LAST),
        Stage(until=10**9, batch=16, world=FULL_SMALL, mix=LAST),
        Stage(until=10**9, batch=16, world=FULL_SMALL, mix=LAST),
    ),
)


def build(recipe: FlowRecipe) -> FlowTask:
    """The task of this recipe."""
    return FlowTask(recipe)
