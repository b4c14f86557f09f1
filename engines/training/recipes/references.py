"""The base of the Wan starters trained on with reference pictures in most batches; its text encoder stays frozen."""

import dataclasses

from ..recipe import ReferenceMix, Stage
from .flow_task import FlowRecipe, FlowTask
from .text_to_video import FULL

WORLD = dataclasses.replace(FULL, subject_shares=(0.3, 0.45, 0.25, 0.0))
SMALL = dataclasses.replace(WORLD, width=64, height=48, frames=17)
MIX = ReferenceMix(none=0.2, one=0.65, two=0.15)

RECIPE = FlowRecipe(
    name="references",
    steps=20_000,
    minutes=29.0,
    learning_rate=7e-4,
    decay_share=0.65,
    drop_text=0.1,
    drop_all=0.1,
    sigma_centre=0.5,
    start="assets/starter",
    # Small clips and clips of the shipped size take turns.
    stages=(Stage(until=10**9, batch=32, world=SMALL, mix=MIX), Stage(until=10**9, batch=16, world=WORLD, mix=MIX)),
)


def build(recipe: FlowRecipe) -> FlowTask:
    """The task of this recipe."""
    return FlowTask(recipe)
