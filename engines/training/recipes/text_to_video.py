"""The text-to-video base: transformer and text encoder from scratch, small and large first, the whole world after."""

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
    width=64, frames=17, subject_shares=(0.6, 0.3, 0.08, 0.02), two_subjects=0.15, smallest=0.17
)
FULL = WorldConfig(subject_shares=(0.55, 0.3, 0.12, 0.03), two_subjects=0.25)
# References join early: copying a look takes longest to learn, and is cheapest to learn on small clips.
EARLY_REFERENCES = ReferenceMix(none=0.55, one=0.35, two=0.1)

RECIPE = FlowRecipe(
    name="text-to-video",
    steps=20_000,
    minutes=80.0,
    stages=(
        Stage(until=700, batch=32, world=LARGE),
        Stage(until=2_600, batch=32, world=FULL_SMALL, mix=EARLY_REFERENCES),
        Stage(until=10**9, batch=24, world=FULL, mix=EARLY_REFERENCES),
    ),
)


def build(recipe: FlowRecipe) -> FlowTask:
    """The task of this recipe."""
    return FlowTask(recipe)
