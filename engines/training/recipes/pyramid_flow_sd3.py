"""The starter of Pyramid Flow's SD3 family: the other's recipe with a smaller network, for half the steps."""

import dataclasses

from .pyramid_flow import RECIPE as MINIFLUX
from .pyramid_flow import build

__all__ = ["RECIPE", "build"]

RECIPE = dataclasses.replace(MINIFLUX, name="pyramid-flow-sd3", family="sd3", steps=MINIFLUX.steps // 2, minutes=45.0)
