"""The starter of Pyramid Flow's SD3 family: the other's recipe, begun as the other's starter."""

import dataclasses

from .pyramid_flow import RECIPE as MINIFLUX
from .pyramid_flow import STARTERS, build

__all__ = ["RECIPE", "build"]

RECIPE = dataclasses.replace(
    MINIFLUX,
    name="pyramid-flow-sd3",
    family="sd3",
    start="assets/starter",
    flux_file=STARTERS["miniflux"].file,
    minutes=110.0,
)
