"""Recipes by name; each module has RECIPE and build(recipe)."""

import importlib
from types import ModuleType

MODULES = {
    "vae": "vae",
    "text-to-video": "text_to_video",
    "references": "references",
    "flashi2v": "flashi2v",
    "bindweave": "bindweave",
    "pyramid-vae": "pyramid_vae",
    "pyramid-flow": "pyramid_flow",
    "pyramid-flow-sd3": "pyramid_flow_sd3",
    "pyramid-flow-384p": "pyramid_flow_full",
    "flashi2v-1.3b": "flashi2v_full",
    "bindweave-14b": "bindweave_full",
    "phantom-physics": "phantom_physics",
    "phantom-force": "phantom_force",
    "physics-encoder": "physics_encoder",
    "phantom-physics-starter": "phantom_physics_starter",
}


def recipe_module(name: str) -> ModuleType:
    """The module of a recipe; raises ValueError with the known names."""
    if name not in MODULES:
        raise ValueError(f"There is no recipe {name!r}: choose one of {', '.join(MODULES)}.")
    return importlib.import_module(f"{__name__}.{MODULES[name]}")
