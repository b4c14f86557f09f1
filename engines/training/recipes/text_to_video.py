"""The text-to-video base: transformer and text encoder from scratch, small and large first, the whole world after."""

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
# References join early: copying a look takes longest to learn, and is cheapest to learn on small clips.
REFERENCES = ReferenceMix(none=0.38, one=0.56, two=0.06)
LAST = ReferenceMix(none=0.25, one=0.62, two=0.13)

RECIPE = FlowRecipe(
    name="text-to-video",
    steps=20_000,
    minutes=108.0,
    decay_share=0.22,
    drop_text=0.1,
    drop_all=0.1,
    stages=(
        Stage(until=700, batch=32, world=LARGE),
        Stage(until=4_900, batch=32, world=FULL_SMALL, mix=REFERENCES),
        Stage(until=10**9, batch=16, world=FULL, mix=LAST),
        Stage(until=10**9, batch=16, world=FULL, mix=LAST),
        Stage(until=10**9, batch=32, world=FULL_SMALL, mix=LAST),
    ),
)


def build(recipe: FlowRecipe) -> FlowTask:
    """The task of this recipe."""
    return FlowTask(recipe)
