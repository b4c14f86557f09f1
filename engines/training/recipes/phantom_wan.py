"""The Phantom starter: the text-to-video base learns to draw the subjects of one to four pictures.

The text encoder is the base's, frozen, so both starters share it. References come from another place, size, angle and
background than in the clip; with dropped references their latents are zeros, as the published guidance needs.
"""

from ..recipe import ReferenceMix, Stage
from ..world import WorldConfig
from .flow_task import FlowRecipe, FlowTask

WORLD = WorldConfig(subject_shares=(0.15, 0.45, 0.33, 0.07), paraphrase=0.3, photo_background=0.05)
MIX = ReferenceMix(none=0.15, one=0.52, two=0.3, many=0.03)

RECIPE = FlowRecipe(
    name="phantom-wan",
    steps=20_000,
    minutes=35.0,
    stages=(Stage(until=10**9, batch=24, world=WORLD, mix=MIX),),
    learning_rate=8e-4,
    decay_share=0.5,
    drop_text=0.1,
    drop_all=0.1,
    train_text=False,
    transformer_file="phantom_wan.safetensors",
    start="assets/starter",
)


def build(recipe: FlowRecipe) -> FlowTask:
    """The task of this recipe."""
    return FlowTask(recipe)
